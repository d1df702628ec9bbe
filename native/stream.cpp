#include "stream.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "instruction_sets.hpp"
#include "threads.hpp"

namespace recurra {
namespace {

constexpr int32_t kRowsAtOnce = 24;       // of x, over several steps, whose W x is computed in one product
constexpr size_t kSharedFrom = 768 << 10;  // bytes of W and U together from which on two threads read them (measured)
constexpr int32_t kColumns = 128;         // of z that a thread takes at a time
constexpr size_t kAlignment = 64;

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(60);   // as long as a helper looks for more work before it sleeps
constexpr auto kSoon = std::chrono::microseconds(200);  // steps that follow so soon are worth waking it
constexpr int kWindow = 32;     // products whose time together tells what is quicker
constexpr int kRetryMost = 1024;  // windows after which the slower way is tried again; at first, a 64th of it

// Zeros, aligned to a line of the cache.
class Buffer {
 public:
  explicit Buffer(size_t bytes = 0) : bytes_(bytes), own_(new char[bytes + kAlignment]()) {
    const auto address = reinterpret_cast<uintptr_t>(own_.get());
    data_ = own_.get() + (kAlignment - address % kAlignment) % kAlignment;
  }
  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  std::unique_ptr<char[]> own_;
  char* data_;
};

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

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

struct Stream::Held {
  Layer layer;
  Job job{};
  void* opened = nullptr;
  const Stepping* stepping = nullptr;
  std::vector<Buffer> states, other;  // of each part: the state, and where the next one is written
  Buffer z, out;
  bool is_down = false;  // the next product begins with its last columns

  ~Held() {
    if (opened) stepping->close(opened);
  }
};

Stream::Stream(bool is_double, int32_t rows, int32_t threads, const std::vector<Layer>& layers)
    : is_double_(is_double), rows_(rows), at_once_(std::max(1, kRowsAtOnce / rows)) {
  const size_t number = is_double ? sizeof(double) : sizeof(float), all = size_t(rows) * number;
  size_t largest = 0;
  for (const Layer& layer : layers) {
    layers_.push_back(std::make_unique<Held>());
    Held& held = *layers_.back();
    held.layer = layer;
    held.stepping = is_double ? &kernels().step_f64 : &kernels().step_f32;
    held.z = Buffer(all * layer.width * at_once_);
    held.out = Buffer(all * layer.output() * at_once_);
    for (const Part& part : layer.parts) {
      held.states.emplace_back(all * part.width);
      held.other.emplace_back(all * part.width);
      held.layer.arrays[part.states].row = held.layer.arrays[part.begun].row = part.width;
    }
    held.layer.arrays[layer.z].row = layer.width;
    const Program& program = *layer.program;
    Job& job = held.job;
    job.steps = 1;
    job.rows = rows;
    job.instructions = program.instructions.data();
    job.instruction_count = int32_t(program.instructions.size());
    job.slots = program.slots.data();
    job.slot_count = int32_t(program.slots.size());
    job.arrays = held.layer.arrays.data();
    job.matrices = program.matrices.data();
    job.matrix_count = int32_t(program.matrices.size());
    job.panels = held.layer.panels.data();
    job.fields = program.fields.data();
    job.field_count = int32_t(program.fields.size());
    job.cleared = program.cleared.data();
    held.opened = held.stepping->open(job, nullptr);
    largest = std::max(largest, (size_t(layer.input) * layer.width + size_t(layer.added) * layer.parts[0].width) * number);
  }
  if (threads > 1 && largest >= kSharedFrom) helper_ = std::make_unique<Helper>();
}

Stream::~Stream() {
  if (helper_ && !helper_->is_here()) helper_.release()->leave();
}

void* Stream::state(int32_t layer, int32_t part) const { return layers_.at(layer)->states.at(part).data(); }

const Layer& Stream::layer(int32_t k) const { return layers_.at(k)->layer; }

int64_t Stream::work() const {
  int64_t found = 0;
  for (const auto& held : layers_) found += int64_t(held->layer.width) * (held->layer.input + held->layer.parts[0].width);
  return found * rows_;
}

int32_t Stream::input() const { return layers_.front()->layer.input; }

int32_t Stream::output() const { return layers_.back()->layer.output(); }

void Stream::run(const void* x, void* y, int64_t steps) {
  in_parallel(1, [&](int) {
    const size_t number = is_double_ ? sizeof(double) : sizeof(float);
    const char* from = static_cast<const char*>(x);
    char* to = static_cast<char*>(y);
    for (int64_t done = 0; done < steps;) {
      const int32_t some = int32_t(std::min<int64_t>(at_once_, steps - done));
      const char* input = from;
      for (const auto& layer : layers_) {
        char* const output = layer == layers_.back() ? to : layer->out.data();
        run_layer(*layer, input, output, some);
        input = output;
      }
      from += size_t(some) * rows_ * this->input() * number;
      to += size_t(some) * rows_ * output() * number;
      done += some;
    }
  });
}

void Stream::run_layer(Held& held, const char* x, char* y, int32_t steps) {
  const Layer& layer = held.layer;
  const size_t number = is_double_ ? sizeof(double) : sizeof(float);
  const int32_t h = layer.parts[0].width, pieces = (layer.width + kColumns - 1) / kColumns;
  const auto multiply = held.stepping->multiply;
  const auto columns = [&](int k, int32_t width) { return std::min(kColumns, width - k * kColumns); };
  const auto at = [&](const void* v, size_t numbers) { return static_cast<const char*>(v) + numbers * number; };
  // Panels are as wide as kColumns, or a part of that: a piece begins with a panel.
  const auto of_x = [&](int k) {
    const size_t first = size_t(k) * kColumns;
    multiply(steps * rows_, x, layer.input, at(layer.W, first * layer.input), layer.input, columns(k, layer.width),
             held.z.data() + first * number, layer.width, layer.bias ? at(layer.bias, first) : nullptr, 0);
  };
  const auto share = [&](const auto& piece) {
    const auto alone = [&] {  // to and fro: of matrices larger than the cache, what was read last is still there
      for (int k = 0; k < pieces; ++k) piece(held.is_down ? pieces - 1 - k : k);
      held.is_down = !held.is_down;
    };
    if (helper_ && pieces > 1)
      helper_->run(pieces, piece, alone);
    else
      alone();
  };
  const bool together = steps == 1;
  if (!together) share(of_x);
  for (int32_t t = 0; t < steps; ++t) {
    char* const z = held.z.data() + size_t(t) * rows_ * layer.width * number;
    const auto of_h = [&](int k) {
      const size_t first = size_t(k) * kColumns;
      if (int32_t(first) >= layer.added) return;
      char* const into = z + first * number;
      multiply(rows_, held.states[0].data(), h, at(layer.U, first * h), h, columns(k, layer.added), into, layer.width, into,
               layer.width);
    };
    if (together)
      share([&](int k) {
        of_x(k);
        of_h(k);
      });
    else if (layer.added)
      share(of_h);
    held.layer.arrays[layer.z].data = z;
    for (size_t p = 0; p < layer.parts.size(); ++p) {
      held.layer.arrays[layer.parts[p].begun].data = held.states[p].data();
      held.layer.arrays[layer.parts[p].states].data = held.other[p].data();
    }
    held.stepping->run(held.opened);
    std::swap(held.states, held.other);
    for (int32_t row = 0; row < (layer.outputs == 1 ? 1 : rows_); ++row)
      for (int32_t p = 0; p < layer.outputs; ++p) {  // one part is copied as it lies
        const size_t bytes = size_t(layer.parts[p].width) * number * (layer.outputs == 1 ? rows_ : 1);
        std::memcpy(y, held.states[p].data() + row * bytes, bytes);
        y += bytes;
      }
  }
}

}  // namespace recurra
