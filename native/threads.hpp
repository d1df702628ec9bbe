// Threads that share out the rows of a batch.
#pragma once
#include <atomic>
#include <functional>

namespace recurra {

// Calls part(0) … part(count - 1), as many at once, and returns when all are done. The calling thread takes part 0. Where
// the threads are busy with another call, or the process was forked since they were made, it makes do with itself or with
// new ones. Waiting threads sleep.
void in_parallel(int count, const std::function<void(int)>& part);

// Calls part(0, parts) … part(parts - 1, parts) all at once, with as many parts as threads are to be had, `count` at most.
void in_team(int count, const std::function<void(int, int)>& part);

// Where threads that run at once wait for each other. They expect to wait for less than a microsecond, so they look again
// and again; but on a busy machine they soon let others run.
class Barrier {
 public:
  void wait(int threads) {
    const unsigned before = rounds_.load(std::memory_order_acquire);
    if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      waiting_.store(0, std::memory_order_relaxed);
      rounds_.store(before + 1, std::memory_order_release);
      return;
    }
    for (int n = 0; rounds_.load(std::memory_order_acquire) == before; ++n) pause(n);
  }

 private:
  std::atomic<int> waiting_{0};
  std::atomic<unsigned> rounds_{0};

  static void pause(int looks);
};

}  // namespace recurra
