// Steps taken one at a time, alone and with a second thread, beside a plain loop: h = tanh(W x + b + U h).
#include "stream.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <thread>
#include <vector>

namespace {

using recurra::Kind;
using recurra::Op;

int faults = 0;

void check(bool right, const char* what) {
  if (right) return;
  std::cerr << "failed: " << what << "\n";
  ++faults;
}

// The same numbers on every machine, between -1 and 1.
class Numbers {
 public:
  std::vector<double> take(size_t count, double largest) {
    std::vector<double> out(count);
    for (double& v : out) v = largest * (double((state_ = state_ * 6364136223846793005u + 1442695040888963407u) >> 40) / (1 << 23) - 1);
    return out;
  }

 private:
  uint64_t state_ = 1;
};

std::vector<double> packed(const std::vector<double>& matrix, int rows, int columns) {
  std::vector<double> panels(size_t(recurra::packed_size(true, rows, columns, false)));
  recurra::pack(true, {{matrix.data(), rows, columns, columns, false, panels.data()}}, 1);
  return panels;
}

recurra::Program program(int width) {
  recurra::Program made;
  made.slots = {{Kind::stream, width, 0, -1, 0, 0}, {Kind::scratch, width, -1, -1, 0, 0}, {Kind::stream, width, 1, -1, 0, 0},
                {Kind::old, width, 1, 2, 0, 0}};
  made.instructions = {{Op::move, 1, 0, -1, -1, 0}, {Op::tanh, 2, 1, -1, -1, 0}};
  made.fields = {{width, 1, -1, 3, -1, -1, -1}};
  made.cleared = {-1};
  made.array_count = 3;
  made.is_double = true;
  return made;
}

struct Net {
  Net(int input, int width, int rows) : I(input), H(width), B(rows), one(program(width)) {
    Numbers numbers;
    W = numbers.take(size_t(H) * I, 1.0 / I);
    U = numbers.take(size_t(H) * H, 1.0 / H);
    b = numbers.take(H, 0.1);
    panels_of_W = packed(W, H, I);
    panels_of_U = packed(U, H, H);
    x = numbers.take(size_t(steps) * B * I, 1);
  }

  recurra::Layer layer() const {
    return {&one, std::vector<recurra::Array>(3), {}, {{H, 1, 2}}, 1, I, 0, H, H, panels_of_W.data(), panels_of_U.data(), b.data()};
  }

  std::vector<double> plainly() const {
    std::vector<double> h(size_t(B) * H), next(h), all;
    for (int t = 0; t < steps; ++t) {
      for (int row = 0; row < B; ++row)
        for (int i = 0; i < H; ++i) {
          double z = b[i];
          for (int k = 0; k < I; ++k) z += W[size_t(i) * I + k] * x[(size_t(t) * B + row) * I + k];
          for (int k = 0; k < H; ++k) z += U[size_t(i) * H + k] * h[size_t(row) * H + k];
          next[size_t(row) * H + i] = std::tanh(z);
        }
      h = next;
      all.insert(all.end(), h.begin(), h.end());
    }
    return all;
  }

  static constexpr int steps = 60;
  const int I, H, B;
  recurra::Program one;
  std::vector<double> W, U, b, panels_of_W, panels_of_U, x;
};

void take(recurra::Stream& stream, const Net& net, std::vector<double>& y, int from, int to, int at_once) {
  for (int t = from; t < to; t += at_once)
    stream.run(net.x.data() + size_t(t) * net.B * net.I, y.data() + size_t(t) * net.B * net.H, std::min(at_once, to - t));
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::fabs(a[i] - b[i]) < 1e-13)) return false;
  return a.size() == b.size();
}

}  // namespace

int main() {
  for (const int rows : {1, 3}) {
    for (const int width : {5, 330}) {  // the larger one is worth a second thread
      const Net net(rows == 1 ? 300 : 170, width, rows);
      const std::vector<double> expected = net.plainly();
      for (const int threads : {1, 2}) {
        for (const int at_once : {1, 7, Net::steps}) {
          recurra::Stream stream(true, rows, threads, {net.layer()});
          std::vector<double> y(expected.size(), NAN);
          take(stream, net, y, 0, 20, at_once);
          std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the second thread goes to sleep
          take(stream, net, y, 20, Net::steps, at_once);
          check(same(y, expected), "steps are those of the plain loop");
        }
      }
    }
  }

#ifdef RECURRA_FORKS
  const Net net(300, 330, 1);
  const std::vector<double> expected = net.plainly();
  std::vector<double> y(expected.size(), NAN);
  auto* stream = new recurra::Stream(true, 1, 2, {net.layer()});
  take(*stream, net, y, 0, 30, 1);
  const pid_t child = fork();
  take(*stream, net, y, 30, Net::steps, 1);
  const bool right = same(y, expected);
  if (!child) _exit(right ? 0 : 1);
  check(right, "a process goes on after a fork");
  int status = 1;
  waitpid(child, &status, 0);
  check(status == 0, "so does the process that was forked");
  delete stream;
#endif
  return faults != 0;
}
