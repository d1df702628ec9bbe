// recurra._native.Stream: a stream as Python sees it. Arrays of NumPy come as buffers, of tensors the addresses.
#include "stream_module.hpp"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "stream.hpp"

namespace nb = nanobind;
using recurra::Stream;

namespace {

using Three = std::tuple<int32_t, int32_t, int32_t>;
using Given = std::tuple<const recurra::Program*, std::vector<int64_t>, std::vector<int64_t>, std::vector<Three>, int32_t,
                         int32_t, int32_t, int32_t, uintptr_t, uintptr_t, uintptr_t>;

constexpr int64_t kWorthReleasing = 1 << 21;  // multiplications; fewer are done sooner than other threads could begin

void check(const recurra::Layer& layer, int32_t input) {
  const auto expect = [](bool right, const char* what) {
    if (!right) throw std::invalid_argument(std::string("a layer of a stream: ") + what);
  };
  const int32_t arrays = layer.program->array_count;
  expect(int32_t(layer.arrays.size()) == arrays, "another number of arrays than its program has");
  expect(layer.panels.size() == layer.program->matrices.size(), "another number of matrices than its program has");
  expect(!layer.parts.empty(), "no state");
  for (const recurra::Part& part : layer.parts)
    expect(part.width > 0 && part.states >= 0 && part.states < arrays && part.begun >= 0 && part.begun < arrays, "no such array");
  expect(layer.z >= 0 && layer.z < arrays, "no such array");
  expect(layer.W && layer.width > 0 && layer.added >= 0 && layer.added <= layer.width && (layer.U || !layer.added), "no such matrix");
  expect(layer.input > 0 && (!input || layer.input == input), "another width of x than the layer below puts out");
  expect(layer.program->sums.empty() && !layer.program->backward, "a program that is no step");
}

Stream* made(bool is_double, int32_t rows, int32_t threads, const std::vector<Given>& all) {
  if (rows < 1 || all.empty()) throw std::invalid_argument("a stream has rows and layers");
  std::vector<recurra::Layer> layers;
  int32_t below = 0;
  for (const auto& [program, arrays, panels, parts, input, z, width, added, W, U, bias] : all) {
    recurra::Layer layer{program, {}, {}, {}, input, z, width, added, reinterpret_cast<const void*>(W),
                         reinterpret_cast<const void*>(U), reinterpret_cast<const void*>(bias)};
    for (const int64_t address : arrays) layer.arrays.push_back({reinterpret_cast<void*>(address), 0, 0});
    for (const int64_t address : panels) layer.panels.push_back(reinterpret_cast<const void*>(address));
    for (const auto& [part, states, begun] : parts) layer.parts.push_back({part, states, begun});
    if (program->is_double != is_double) throw std::invalid_argument("a program of another type of numbers");
    check(layer, below);
    below = layer.parts[0].width;
    layers.push_back(std::move(layer));
  }
  return new Stream(is_double, rows, threads, layers);
}

// Numbers of the right type that lie side by side, as long as this lives.
class Numbers {
 public:
  Numbers(const Stream& stream, PyObject* object, bool to_write) {
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (to_write ? PyBUF_WRITABLE : 0);
    has_ = PyObject_GetBuffer(object, &view_, flags) == 0;
    if (!has_) PyErr_Clear();
    right_ = has_ && view_.format && !std::strcmp(view_.format, stream.is_double() ? "d" : "f");
  }
  ~Numbers() {
    if (has_) PyBuffer_Release(&view_);
  }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;

  // The steps, where it is (steps, rows, width), without the first where only one is meant, or without the second where
  // there is but one row; else -1.
  int64_t steps(bool one, int32_t rows, int32_t width) const {
    if (!right_) return -1;
    const int along = one ? 0 : 1;
    if (view_.ndim == along + 2 ? view_.shape[along] != rows : view_.ndim != along + 1 || rows != 1) return -1;
    if (view_.shape[view_.ndim - 1] != width) return -1;
    return one ? 1 : int64_t(view_.shape[0]);
  }
  void* data() const { return view_.buf; }

 private:
  Py_buffer view_;
  bool has_, right_;
};

void run(Stream& stream, const void* x, void* y, int64_t steps) {
  if (stream.in_use) throw std::runtime_error("a stream takes one step after another, and another thread is at one");
  int64_t work = 0;
  for (int32_t k = 0; k < stream.layer_count(); ++k) {
    const recurra::Layer& layer = stream.layer(k);
    work += int64_t(layer.width) * (layer.input + layer.parts[0].width);
  }
  if (steps * work * stream.rows() < kWorthReleasing) return stream.run(x, y, steps);
  stream.in_use = true;
  {
    nb::gil_scoped_release release;
    stream.run(x, y, steps);
  }
  stream.in_use = false;
}

bool run_buffers(Stream& stream, const nb::object& x, const nb::object& y, bool one) {
  const Numbers from(stream, x.ptr(), false), to(stream, y.ptr(), true);
  const int64_t steps = from.steps(one, stream.rows(), stream.input());
  if (steps < 0 || to.steps(one, stream.rows(), stream.output()) != steps) return false;
  run(stream, from.data(), to.data(), steps);
  return true;
}

size_t bytes_of(const Stream& stream, int32_t layer, int32_t part) {
  return size_t(stream.rows()) * stream.layer(layer).parts.at(part).width * (stream.is_double() ? sizeof(double) : sizeof(float));
}

}  // namespace

void add_stream(nb::module_& module) {
  nb::class_<Stream>(module, "Stream", "Layers that take one step after another, and their state.")
      .def(nb::new_(&made), nb::arg("is_double"), nb::arg("rows"), nb::arg("threads"), nb::arg("layers"))
      .def("step", [](Stream& stream, const nb::object& x, const nb::object& y) { return run_buffers(stream, x, y, true); },
           nb::arg("x"), nb::arg("y"), "Takes a step; false where x or y is no such array.")
      .def("block", [](Stream& stream, const nb::object& x, const nb::object& y) { return run_buffers(stream, x, y, false); },
           nb::arg("x"), nb::arg("y"), "Takes as many steps as x has; false where x or y is no such array.")
      .def("run", [](Stream& stream, uintptr_t x, uintptr_t y, int64_t steps) {
             run(stream, reinterpret_cast<const void*>(x), reinterpret_cast<void*>(y), steps);
           }, nb::arg("x"), nb::arg("y"), nb::arg("steps"), "Takes steps, with the addresses of x and y.")
      .def("read", [](const Stream& stream, int32_t layer, int32_t part, uintptr_t into) {
             std::memcpy(reinterpret_cast<void*>(into), stream.state(layer, part), bytes_of(stream, layer, part));
           }, nb::arg("layer"), nb::arg("part"), nb::arg("into"), "Copies a part of a layer's state, (rows, width).")
      .def("write", [](Stream& stream, int32_t layer, int32_t part, uintptr_t from) {
             std::memcpy(stream.state(layer, part), reinterpret_cast<const void*>(from), bytes_of(stream, layer, part));
           }, nb::arg("layer"), nb::arg("part"), nb::arg("from_"), "Sets a part of a layer's state.");
}
