// A second thread for work that comes again and again, a few microseconds of it at a time.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "threads.hpp"

namespace recurra {

using Clock = std::chrono::steady_clock;
inline constexpr auto kSpin = std::chrono::microseconds(60);   // as long as a helper looks for more work before it sleeps
inline constexpr auto kSoon = std::chrono::microseconds(200);  // steps that follow so soon are worth waking it
inline constexpr int kWindow = 32;     // products whose time together tells what is quicker
inline constexpr int kRetryMost = 1024;  // windows after which the slower way is tried again; at first, a 64th of it

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A second thread that takes part in a product. The caller takes its pieces from the first on, the helper from the last on,
// until they meet: each piece mostly goes to the thread that has it in its cache, and where the helper sleeps, the caller
// does all of them and waits for nobody. On a busy machine the helper may lose its processor in the middle of a piece, or
// take the caller's; so it is measured again and again whether the caller is quicker alone.
class Helper {
 public:
  Helper() : owner_(getpid()), thread_([this] { in_parallel(1, [this](int) { work(); }); }) {}

  // Not to be called in a process that was forked since: there is no such thread (see `is_here`).
  ~Helper() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_.store(true);
    }
    wake_.notify_one();
    thread_.join();
  }

  // Whether the calling thread is the helper.
  bool is_helping() const { return std::this_thread::get_id() == thread_.get_id(); }

  bool is_here() const { return owner_ == getpid(); }
  void leave() { thread_.detach(); }

  // Does the pieces of a product, with the helper or without it.
  template <typename F, typename G>
  void run(int count, const F& piece, const G& alone) {
    const Clock::time_point begun = Clock::now();
    const bool is_soon = begun - last_ < kSoon;  // else it is asleep, and would be up too late
    if (is_soon && is_shared_)
      share(count, piece);
    else
      alone();
    last_ = Clock::now();
    if (is_soon) judge(std::chrono::duration<double>(last_ - begun).count());
  }

 private:
  const pid_t owner_;
  std::atomic<uint64_t> left_{0};  // the call, and of its pieces the first that is left (16 bits) and the one behind the last
  std::atomic<int> done_{0};       // by the helper
  std::atomic<bool> sleeping_{false}, stop_{false};
  void (*part_)(const void*, int) = nullptr;
  const void* context_ = nullptr;
  uint64_t calls_ = 0;
  bool is_shared_ = true;
  double time_ = 0;            // of the window at hand
  double found_[2] = {0, 0};   // in the last window alone, and shared; 0 where that is not known
  int products_ = 0, windows_ = 0, retry_ = kRetryMost / 64;
  Clock::time_point last_{};  // the end of the last product
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;  // the last, since it uses the others

  static int first(uint64_t left) { return int(left >> 16 & 0xffff); }
  static int last(uint64_t left) { return int(left & 0xffff); }

  template <typename F>
  void share(int count, const F& piece) {
    part_ = [](const void* f, int k) { (*static_cast<const F*>(f))(k); };
    context_ = &piece;
    done_.store(0, std::memory_order_relaxed);
    const uint64_t call = (++calls_) << 32;
    left_.store(call | uint64_t(count), std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) && is_here()) wake();
    int low = 0, high = count;
    for (;;) {
      uint64_t left = left_.load(std::memory_order_acquire);
      low = first(left), high = last(left);
      if (low == high) break;
      if (left_.compare_exchange_weak(left, left + (uint64_t(1) << 16), std::memory_order_acq_rel)) piece(low);
    }
    for (int n = 0; done_.load(std::memory_order_acquire) != count - high; ++n) {
      if (n < 200) relax();
      else std::this_thread::yield();
    }
  }

  // Goes over to the other way where that was quicker in its last window, or has to be tried anew.
  void judge(double time) {
    time_ += time;
    if (++products_ < kWindow) return;
    found_[is_shared_] = time_;
    time_ = 0;
    products_ = 0;
    const double other = found_[!is_shared_];
    if (other == 0 || found_[is_shared_] > 1.05 * other) {
      if (other != 0) retry_ = windows_ < 2 ? std::min(2 * retry_, kRetryMost) : kRetryMost / 64;
      is_shared_ = !is_shared_;
      windows_ = 0;
    } else if (++windows_ >= retry_) {
      found_[!is_shared_] = 0;
      windows_ = 0;
    }
  }

  void wake() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      sleeping_.store(false);
    }
    wake_.notify_one();
  }

  void work() {
    Clock::time_point busy = Clock::now();
    for (int n = 0; !stop_.load(std::memory_order_relaxed); ++n) {
      uint64_t left = left_.load(std::memory_order_acquire);
      if (first(left) < last(left)) {
        if (left_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel)) {
          part_(context_, last(left) - 1);
          done_.fetch_add(1, std::memory_order_release);
          busy = Clock::now();
        }
        continue;
      }
      relax();
      if (n % 64 || Clock::now() - busy < kSpin) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.store(true);
      wake_.wait(lock, [this] { return !sleeping_.load() || stop_.load(); });
      busy = Clock::now();
    }
  }
};

}  // namespace recurra
