#include "threads.hpp"

#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

namespace recurra {
namespace {

// Numbers too small for the usual format are taken for zero while a part runs: on some processors each costs a hundred
// operations, and a gradient that fades away is full of them. The caller's own setting comes back.
class FlushSubnormals {
 public:
#if defined(__x86_64__) || defined(__i386__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (1ul << 24)));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  unsigned long before_;
#endif
};

class Pool {
 public:
  // False where another call has the threads.
  bool run(int count, const std::function<void(int)>& part) {
    std::unique_lock<std::mutex> mine(in_use_, std::try_to_lock);
    if (!mine) return false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (int(workers_.size()) < count - 1) {
        const int k = int(workers_.size()) + 1;
        workers_.emplace_back([this, k] { work(k); });
      }
      part_ = &part;
      count_ = count;
      left_ = count - 1;
      ++call_;
    }
    begin_.notify_all();
    part(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return left_ == 0; });
    return true;
  }

 private:
  std::mutex in_use_, mutex_;
  std::condition_variable begin_, done_;
  std::vector<std::thread> workers_;
  const std::function<void(int)>* part_ = nullptr;
  int count_ = 0, left_ = 0;
  unsigned long call_ = 0;

  void work(int k) {
    FlushSubnormals flush;
    unsigned long last = 0;
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      begin_.wait(lock, [&] { return call_ != last; });
      last = call_;
      if (k >= count_) continue;
      const std::function<void(int)>* part = part_;
      lock.unlock();
      (*part)(k);
      lock.lock();
      if (--left_ == 0) done_.notify_one();
    }
  }
};

// A pool is never destroyed: its threads may still wait when the process ends. After a fork the child has no threads but
// its own, so it begins a pool of its own and leaves the parent's where it lies.
Pool& pool() {
  static std::mutex making;
  static Pool* current = nullptr;
  static pid_t owner = 0;
  std::lock_guard<std::mutex> lock(making);
  if (!current || owner != getpid()) {
    current = new Pool;
    owner = getpid();
  }
  return *current;
}

// The threads of the process's OpenMP, where it has one: PyTorch's. They spin for a while behind each of PyTorch's own
// operations, and threads beside them would have to share the processor with them: with as many as there are processors a
// run took twice as long. So the work is given to those that wait for it. Found by name, since nothing is linked.
class OpenMP {
 public:
  OpenMP() : owner_(getpid()) {
    find(parallel_, "GOMP_parallel");
    find(thread_, "omp_get_thread_num");
    find(threads_, "omp_get_num_threads");
  }

  // False where there is none, or where the process was forked since: its threads are the parent's then.
  bool run(int count, const std::function<void(int, int)>& part) const {
    if (!parallel_ || !thread_ || !threads_ || owner_ != getpid()) return false;
    const Team team{this, &part};
    parallel_(&work, const_cast<Team*>(&team), unsigned(count), 0);
    return true;
  }

 private:
  struct Team {
    const OpenMP* omp;
    const std::function<void(int, int)>* part;
  };

  pid_t owner_;
  void (*parallel_)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*thread_)() = nullptr;
  int (*threads_)() = nullptr;

  template <typename F>
  static void find(F& function, const char* name) {
    function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
  }

  // There may be fewer threads than were asked for; inside another parallel region, one.
  static void work(void* given) {
    FlushSubnormals flush;
    const Team& team = *static_cast<const Team*>(given);
    (*team.part)(team.omp->thread_(), team.omp->threads_());
  }
};

const OpenMP& openmp() {
  static const OpenMP found;
  return found;
}

}  // namespace

void in_parallel(int count, const std::function<void(int)>& part) {
  FlushSubnormals flush;
  const auto some = [&](int first, int threads) {
    for (int k = first; k < count; k += threads) part(k);
  };
  if (count > 1 && (openmp().run(count, some) || pool().run(count, part))) return;
  some(0, 1);
}

void in_team(int count, const std::function<void(int, int)>& part) {
  FlushSubnormals flush;
  if (count > 1 && (openmp().run(count, part) || pool().run(count, [&](int k) { part(k, count); }))) return;
  part(0, 1);
}

void Barrier::pause(int looks) {
  if (looks > 2000) {
    sched_yield();
    return;
  }
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#endif
}

}  // namespace recurra
