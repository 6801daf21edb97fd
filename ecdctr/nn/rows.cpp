// What a training step does with the rows of embedding tables, in single passes over memory.
//
// Plain C interface, called through ctypes with the interpreter's lock released. Every sum is taken in a fixed order, so the
// same input gives the same bits. Matrices are row-major float32; `dim` is the length of a row.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kDigit = 11;
constexpr int kBuckets = 1 << kDigit;
// Rows of large tables come from memory that no cache holds: ask for them this many rows early.
constexpr int64_t kAhead = 12;

// More runs than this are not merged one head at a time.
constexpr int kRuns = 16;
// Bits of a row number in one signed 32-bit integer.
constexpr int kHalf = 31;

// The row number behind the `dim` numbers of a packed row that is `width` long.
inline int64_t place_of(const int32_t* packed, int64_t dim, int64_t width) {
  const int64_t last = packed[width - 1];
  return width - dim == 2 ? static_cast<int64_t>(packed[dim]) << kHalf | last : last;
}

inline void prefetch(const float* row, int64_t dim) {
  const char* bytes = reinterpret_cast<const char*>(row);
  for (int64_t at = 0; at < dim * 4; at += 64) __builtin_prefetch(bytes + at);
  __builtin_prefetch(bytes + dim * 4 - 1);
}

}  // namespace

extern "C" {

// Groups n places by row; see `Distinct` for the arrays written. `scratch` holds 2 n numbers. Returns how many rows there are.
int64_t group_places(const int64_t* places, int64_t n, int64_t* rows, int64_t* inverse, int64_t* order, int64_t* starts,
                     uint64_t* scratch) {
  uint64_t highest = 0;
  int shift = 0;
  for (int64_t at = 0; at < n; ++at) highest |= static_cast<uint64_t>(places[at]);
  while ((int64_t{1} << shift) < n) ++shift;
  uint64_t *from = scratch, *to = scratch + n;
  // Row and position in one number; a stable sort by row alone then leaves equal rows in their own order.
  for (int64_t at = 0; at < n; ++at) from[at] = static_cast<uint64_t>(places[at]) << shift | static_cast<uint64_t>(at);
  for (int low = 0; low < 64 - shift && highest >> low; low += kDigit) {
    int64_t count[kBuckets] = {};
    for (int64_t at = 0; at < n; ++at) ++count[from[at] >> (shift + low) & (kBuckets - 1)];
    int64_t sum = 0;
    for (int64_t& each : count) {
      int64_t here = each;
      each = sum;
      sum += here;
    }
    for (int64_t at = 0; at < n; ++at) to[count[from[at] >> (shift + low) & (kBuckets - 1)]++] = from[at];
    uint64_t* swap = from;
    from = to;
    to = swap;
  }
  const uint64_t mask = (uint64_t{1} << shift) - 1;
  int64_t found = 0;
  for (int64_t at = 0; at < n; ++at) {
    const int64_t row = static_cast<int64_t>(from[at] >> shift), position = static_cast<int64_t>(from[at] & mask);
    if (found == 0 || rows[found - 1] != row) {
      rows[found] = row;
      starts[found++] = at;
    }
    order[at] = position;
    inverse[position] = found - 1;
  }
  return found;
}

// out[i] = `width` numbers of table[places[i]] from `first` on, for a table of `rows` rows. Returns n, or the first i whose
// place is not in the table.
int64_t gather_rows(const float* table, int64_t rows, int64_t dim, int64_t first, int64_t width, const int64_t* places,
                    int64_t n, float* out) {
  for (int64_t at = 0; at < n; ++at) {
    if (static_cast<uint64_t>(places[at]) >= static_cast<uint64_t>(rows)) return at;
    if (at + kAhead < n) prefetch(table + places[at + kAhead] * dim + first, width);
    std::memcpy(out + at * width, table + places[at] * dim + first, width * sizeof(float));
  }
  return n;
}

// out[u] = sum of value order[i] over starts[u] <= i < starts[u + 1], in that order. Values are rows of `width` numbers in `parts`
// matrices, part p with the rows from bounds[p] up to bounds[p + 1], `strides[p]` apart; a part that is null is zero. Rows of
// `out` lie `dim` apart.
void merge_rows(const float* const* values, const int64_t* strides, const int64_t* bounds, int64_t parts, int64_t width,
                const int64_t* order, int64_t n, const int64_t* starts, int64_t found, float* out, int64_t dim) {
  const auto value_at = [=](int64_t at) -> const float* {
    int64_t part = 0;
    while (part + 1 < parts && at >= bounds[part + 1]) ++part;
    return values[part] ? values[part] + (at - bounds[part]) * strides[part] : nullptr;
  };
  for (int64_t row = 0; row < found; ++row) {
    const int64_t stop = row + 1 < found ? starts[row + 1] : n;
    float* sum = out + row * dim;
    for (int64_t column = 0; column < width; ++column) sum[column] = 0;
    for (int64_t at = starts[row]; at < stop; ++at) {
      if (at + kAhead < n)
        if (const float* later = value_at(order[at + kAhead])) prefetch(later, width);
      if (const float* value = value_at(order[at]))
        for (int64_t column = 0; column < width; ++column) sum[column] += value[column];
    }
  }
}

// Deals n places, none below `first`, to `ranks` owners: owner and place on the owner are remainder and quotient of the distance
// to `first`. `order` and `local` are grouped by owner, those of one in their own order; counts[r] is how many owner r has.
// `scratch` holds n + ranks numbers.
void deal_places(const int64_t* places, int64_t n, int64_t first, int64_t ranks, int64_t* order, int64_t* local, int64_t* counts,
                 int64_t* scratch) {
  int64_t* next = scratch + n;
  for (int64_t rank = 0; rank < ranks; ++rank) counts[rank] = 0;
  for (int64_t at = 0; at < n; ++at) {
    scratch[at] = (places[at] - first) / ranks;
    ++counts[places[at] - first - scratch[at] * ranks];
  }
  int64_t sum = 0;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    next[rank] = sum;
    sum += counts[rank];
  }
  for (int64_t at = 0; at < n; ++at) {
    const int64_t target = next[places[at] - first - scratch[at] * ranks]++;
    order[target] = at;
    local[target] = scratch[at] + first;
  }
}

// out[places[i]] = rows[i], rows of `dim` numbers.
void put_rows(const float* rows, int64_t n, int64_t dim, const int64_t* places, float* out) {
  for (int64_t at = 0; at < n; ++at) std::memcpy(out + places[at] * dim, rows + at * dim, dim * sizeof(float));
}

// Rows of `dim` floats, `stride` apart, and their numbers, side by side in rows of `width` integers: dim + 1, or dim + 2 where
// a number takes more than 31 bits. With an order, place i belongs to row order[i].
void pack_rows(const int64_t* places, const float* values, int64_t n, int64_t dim, int64_t stride, int64_t width,
               const int64_t* order, int32_t* packed) {
  for (int64_t at = 0; at < n; ++at) {
    int32_t* row = packed + at * width;
    std::memcpy(row, values + (order ? order[at] : at) * stride, dim * sizeof(float));
    if (width - dim == 2) row[dim] = static_cast<int32_t>(places[at] >> kHalf);
    row[width - 1] = static_cast<int32_t>(places[at] & ((int64_t{1} << kHalf) - 1));
  }
}

// Merges the packed rows of several parts, part p with counts[p] of them, in each of which they stand in a few runs of ascending
// numbers: distinct numbers, ascending, and the sums of their rows, added in the order in which they stand. Returns how many
// there are, or -1 where there are more runs than are merged so.
int64_t merge_runs(const int32_t* const* parts, const int64_t* counts, int64_t n, int64_t dim, int64_t width, int64_t* rows,
                   float* sums) {
  const int32_t *head[kRuns], *stop[kRuns];
  int64_t place[kRuns];
  int runs = 0;
  for (int64_t part = 0; part < n; ++part) {
    int64_t before = INT64_MAX;
    for (int64_t at = 0; at < counts[part]; ++at) {
      const int32_t* packed = parts[part] + at * width;
      const int64_t here = place_of(packed, dim, width);
      if (here <= before) {
        if (runs == kRuns) return -1;
        place[runs] = here;
        head[runs++] = packed;
      }
      stop[runs - 1] = packed + width;
      before = here;
    }
  }
  int64_t found = 0;
  for (;; ++found) {
    int64_t lowest = INT64_MAX;
    for (int run = 0; run < runs; ++run)
      if (place[run] < lowest) lowest = place[run];
    if (lowest == INT64_MAX) return found;
    rows[found] = lowest;
    float* sum = sums + found * dim;
    bool first = true;
    for (int run = 0; run < runs; ++run) {
      if (place[run] != lowest) continue;
      const float* value = reinterpret_cast<const float*>(head[run]);
      if (first)
        std::memcpy(sum, value, dim * sizeof(float));
      else
        for (int64_t column = 0; column < dim; ++column) sum[column] += value[column];
      first = false;
      head[run] += width;
      place[run] = head[run] < stop[run] ? place_of(head[run], dim, width) : INT64_MAX;
    }
  }
}

// Row-wise Adagrad on distinct rows: state += mean(g^2); weight -= rate * g / (sqrt(state) + eps), with g = scale * gradient.
void rowwise_adagrad(float* table, float* state, int64_t dim, const int64_t* places, const float* gradients, int64_t n,
                     float scale, float rate, float eps) {
  for (int64_t at = 0; at < n; ++at) {
    if (at + kAhead < n) {
      prefetch(table + places[at + kAhead] * dim, dim);
      __builtin_prefetch(state + places[at + kAhead]);
    }
    const float* gradient = gradients + at * dim;
    float* row = table + places[at] * dim;
    float square = 0;
    for (int64_t column = 0; column < dim; ++column) {
      const float g = gradient[column] * scale;
      square += g * g;
    }
    const float total = state[places[at]] += square / static_cast<float>(dim);
    const float step = -rate * scale / (std::sqrt(total) + eps);
    for (int64_t column = 0; column < dim; ++column) row[column] += gradient[column] * step;
  }
}

}  // extern "C"
