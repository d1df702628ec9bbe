// A network that takes one step after another, as its inputs come: it holds the state, and makes nothing anew for a step.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "program.hpp"

namespace recurra {

class Helper;

// One part of a layer's state.
struct Part {
  int32_t width;
  int32_t states, begun;  // arrays of the program: the new state, and the old one
};

// One layer: z = W x + b of all gates, and U h added to the first so many columns of it; then the program, which reads z.
// What it points at is Python's, and stays where it is.
struct Layer {
  const Program* program;
  std::vector<Array> arrays;
  std::vector<const void*> panels;  // of the program's matrices
  std::vector<Part> parts;
  int32_t outputs;                  // so many of the parts, side by side, are what the layer puts out
  int32_t input;                    // numbers in a row of x
  int32_t z;                        // the array of z
  int32_t width;                    // numbers in a row of z
  int32_t added;                    // columns of z that U h is added to
  const void* W;                    // panels
  const void* U;                    // panels; null where `added` is 0
  const void* bias;                 // null for none

  int32_t output() const {
    int32_t width = 0;
    for (int32_t p = 0; p < outputs; ++p) width += parts[p].width;
    return width;
  }
};

class Stream {
 public:
  Stream(bool is_double, int32_t rows, int32_t threads, const std::vector<Layer>& layers);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Takes steps: x is (steps, rows, input of the first layer), y (steps, rows, output of the last one).
  void run(const void* x, void* y, int64_t steps);

  // The state of one part of a layer, (rows, width), to be read and written between steps.
  void* state(int32_t layer, int32_t part) const;
  const Layer& layer(int32_t k) const;
  int64_t work() const;  // multiplications of a step

  bool is_double() const { return is_double_; }
  int32_t rows() const { return rows_; }
  int32_t input() const;
  int32_t output() const;

 private:
  struct Held;
  const bool is_double_;
  const int32_t rows_;
  int32_t at_once_;  // steps whose W x is computed in one product
  std::vector<std::unique_ptr<Held>> layers_;
  std::unique_ptr<Helper> helper_;

  void run_layer(Held& layer, const char* x, char* y, int32_t steps);
};

}  // namespace recurra
