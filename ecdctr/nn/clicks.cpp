// What target attention does with the clicks of a batch, beside its matrix products, in single passes over memory.
//
// Plain C interface, called through ctypes with the interpreter's lock released. Histories are (B, T, D), row-major float32;
// `clicks` are the n places b T + t that hold a click, ascending; sums are taken in their order.

#include <cstdint>
#include <cstring>

extern "C" {

// out[i] = (click, target * click), rows of 2 D numbers.
void pair_clicks(const float* __restrict target, const float* __restrict past, const int64_t* clicks, int64_t n, int64_t length, int64_t dim,
                 float* __restrict out) {
  for (int64_t at = 0; at < n; ++at) {
    const float* __restrict own = target + clicks[at] / length * dim;
    const float* __restrict click = past + clicks[at] * dim;
    float* __restrict pair = out + at * 2 * dim;
    std::memcpy(pair, click, dim * sizeof(float));
    for (int64_t column = 0; column < dim; ++column) pair[dim + column] = own[column] * click[column];
  }
}

// Gradients of `pair_clicks`; both are zero when it is called, and stay so where there is no click.
void pair_clicks_back(const float* __restrict gradient, const float* __restrict target, const float* __restrict past, const int64_t* clicks, int64_t n,
                      int64_t length, int64_t dim, float* __restrict of_target, float* __restrict of_past) {
  for (int64_t at = 0; at < n; ++at) {
    const int64_t row = clicks[at] / length;
    const float *own = target + row * dim, *click = past + clicks[at] * dim, *pair = gradient + at * 2 * dim;
    float *__restrict to_own = of_target + row * dim, *__restrict to_click = of_past + clicks[at] * dim;
    for (int64_t column = 0; column < dim; ++column) {
      to_click[column] = pair[column] + pair[dim + column] * own[column];
      to_own[column] += pair[dim + column] * click[column];
    }
  }
}

// values[i] = relu(values[i] + by_row[row of click i]), rows of `width` numbers.
void add_rows_relu(float* __restrict values, const float* __restrict by_row, const int64_t* clicks, int64_t n, int64_t length, int64_t width) {
  for (int64_t at = 0; at < n; ++at) {
    const float* __restrict added = by_row + clicks[at] / length * width;
    float* __restrict value = values + at * width;
    for (int64_t column = 0; column < width; ++column) {
      const float sum = value[column] + added[column];
      // A NaN stays one.
      value[column] = sum < 0 ? 0 : sum;
    }
  }
}

// Gradients of `add_rows_relu` from its result; that of the rows is zero when it is called.
void add_rows_relu_back(const float* __restrict gradient, const float* __restrict values, const int64_t* clicks, int64_t n, int64_t length,
                        int64_t width, float* __restrict of_values, float* __restrict of_rows) {
  for (int64_t at = 0; at < n; ++at) {
    const float *__restrict from = gradient + at * width, *__restrict value = values + at * width;
    float *__restrict to = of_values + at * width, *__restrict sum = of_rows + clicks[at] / length * width;
    for (int64_t column = 0; column < width; ++column) {
      // Read whether it passes or not, so that no branch has to be guessed.
      const float arrived = from[column], passed = value[column] <= 0 ? 0 : arrived;
      to[column] = passed;
      sum[column] += passed;
    }
  }
}

// out[row] += score[i] * click i; `out` is zero when it is called.
void pool_clicks(const float* __restrict scores, const float* __restrict past, const int64_t* clicks, int64_t n, int64_t length, int64_t dim,
                 float* __restrict out) {
  for (int64_t at = 0; at < n; ++at) {
    const float *click = past + clicks[at] * dim, score = scores[at];
    float* __restrict sum = out + clicks[at] / length * dim;
    for (int64_t column = 0; column < dim; ++column) sum[column] += score * click[column];
  }
}

// Gradients of `pool_clicks`; that of the histories is zero when it is called.
void pool_clicks_back(const float* __restrict gradient, const float* __restrict scores, const float* __restrict past, const int64_t* clicks, int64_t n,
                      int64_t length, int64_t dim, float* __restrict of_scores, float* __restrict of_past) {
  for (int64_t at = 0; at < n; ++at) {
    const float *__restrict from = gradient + clicks[at] / length * dim, *click = past + clicks[at] * dim, score = scores[at];
    float *__restrict to = of_past + clicks[at] * dim, sum = 0;
    for (int64_t column = 0; column < dim; ++column) {
      to[column] = score * from[column];
      sum += from[column] * click[column];
    }
    of_scores[at] = sum;
  }
}

}  // extern "C"
