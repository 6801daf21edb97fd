// Counters in memory that several processes share: one writer each, many that wait for them.
//
// Plain C interface, called through ctypes with the interpreter's lock released. A counter written after data is seen only
// together with that data (release and acquire).

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

static_assert(std::atomic<int64_t>::is_always_lock_free && sizeof(std::atomic<int64_t>) == 8);

namespace {

using Clock = std::chrono::steady_clock;
// Others of the same step come within microseconds of each other, as long as each has a core of its own.
constexpr int kSpins = 4000;
constexpr auto kYielding = std::chrono::milliseconds(2);
constexpr auto kNap = std::chrono::microseconds(100);

inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

extern "C" {

// Sets a counter, after everything that this thread has written before.
void publish(std::atomic<int64_t>* counter, int64_t value) { counter->store(value, std::memory_order_release); }

// Waits until `count` counters, `stride` numbers apart, are all at `value` or above. Returns `count`, or after `milliseconds`
// the first that is not.
int64_t await_all(const std::atomic<int64_t>* first, int64_t stride, int64_t count, int64_t value, int64_t milliseconds) {
  const auto since = Clock::now();
  for (int64_t at = 0; at < count; ++at) {
    const std::atomic<int64_t>& counter = first[at * stride];
    for (int spin = 0; counter.load(std::memory_order_acquire) < value; ++spin) {
      if (spin < kSpins) {
        pause_briefly();
        continue;
      }
      const auto waited = Clock::now() - since;
      if (waited > std::chrono::milliseconds(milliseconds)) return at;
      if (waited < kYielding)
        sched_yield();
      else
        std::this_thread::sleep_for(kNap);
    }
  }
  return count;
}

}  // extern "C"
