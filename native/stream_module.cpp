// recurra._native.Stream: a stream as Python sees it. Arrays of NumPy come as buffers, tensors by PyTorch's table of C
// functions for exchange (DLPack 1.2 and later), which needs no link against PyTorch: what a call in Python would take
// several times as long to find out.
#include "stream_module.hpp"

#include <nanobind/ndarray.h>
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
                         int32_t, int32_t, int32_t, int32_t, uintptr_t, uintptr_t, uintptr_t>;

constexpr int64_t kWorthReleasing = 1 << 21;  // multiplications; fewer are done sooner than other threads could begin

void check(const recurra::Layer& layer, int32_t input) {
  const auto expect = [](bool right, const char* what) {
    if (!right) throw std::invalid_argument(std::string("a layer of a stream: ") + what);
  };
  const int32_t arrays = layer.program->array_count;
  expect(int32_t(layer.arrays.size()) == arrays, "another number of arrays than its program has");
  expect(layer.panels.size() == layer.program->matrices.size(), "another number of matrices than its program has");
  expect(layer.outputs > 0 && size_t(layer.outputs) <= layer.parts.size(), "no state");
  for (const recurra::Part& part : layer.parts)
    expect(part.width > 0 && part.states >= 0 && part.states < arrays && part.begun >= 0 && part.begun < arrays, "no such array");
  expect(layer.z >= 0 && layer.z < arrays, "no such array");
  expect(layer.W && layer.width > 0 && layer.added >= 0 && layer.added <= layer.width && (layer.U || !layer.added), "no such matrix");
  expect(layer.input > 0 && (!input || layer.input == input), "another width of x than the layer below puts out");
  expect(layer.program->sums.empty() && !layer.program->backward, "a program that is no step");
}

std::vector<recurra::Layer> checked(bool is_double, int32_t rows, const std::vector<Given>& all) {
  if (rows < 1 || all.empty()) throw std::invalid_argument("a stream has rows and layers");
  std::vector<recurra::Layer> layers;
  int32_t below = 0;
  for (const auto& [program, arrays, panels, parts, outputs, input, z, width, added, W, U, bias] : all) {
    recurra::Layer layer{program, {}, {}, {}, outputs, input, z, width, added, reinterpret_cast<const void*>(W),
                         reinterpret_cast<const void*>(U), reinterpret_cast<const void*>(bias)};
    for (const int64_t address : arrays) layer.arrays.push_back({reinterpret_cast<void*>(address), 0, 0});
    for (const int64_t address : panels) layer.panels.push_back(reinterpret_cast<const void*>(address));
    for (const auto& [part, states, begun] : parts) layer.parts.push_back({part, states, begun});
    if (program->is_double != is_double) throw std::invalid_argument("a program of another type of numbers");
    check(layer, below);
    below = layer.output();
    layers.push_back(std::move(layer));
  }
  return layers;
}

// The table that a type of tensors has as __dlpack_c_exchange_api__, as far as it is used here (DLPackExchangeAPI).
struct Exchange {
  struct {
    uint32_t major, minor;
  } version;
  Exchange* previous;
  void (*unused[3])();
  int (*view)(void* object, nb::dlpack::dltensor* out);  // what it shows lives no longer than the object
};

const Exchange* exchange_of(const nb::handle& type) {
  const nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
  if (capsule.is_none()) return nullptr;
  const auto* table = static_cast<const Exchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (!table) throw nb::python_error();
  while (table && table->version.major != 1) table = table->previous;
  return table && table->view ? table : nullptr;
}

// A stream, and what it makes outputs with: for arrays and for tensors a function, and its arguments for an output of as
// many axes.
class Bound {
 public:
  Stream stream;
  const nb::object tensor_type;
  const Exchange* const exchange;
  const nb::tuple arrays, tensors;  // (function, arguments for one axis or None, arguments for two)
  bool in_use = false;              // by a call that lets other Python threads run meanwhile
};

// Numbers of the right type that lie side by side, as long as this lives.
class Numbers {
 public:
  Numbers(const Bound& bound, PyObject* object, bool to_write) {
    is_tensor_ = reinterpret_cast<PyObject*>(Py_TYPE(object)) == bound.tensor_type.ptr();
    is_right_ = is_tensor_ ? is_tensor(bound, object) : is_buffer(bound, object, to_write);
    if (PyErr_Occurred()) PyErr_Clear();
  }
  ~Numbers() {
    if (has_buffer_) PyBuffer_Release(&buffer_);
  }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;

  // The steps, where it is (steps, rows, width), without the first where only one is meant, or without the second where
  // there is but one row; else -1.
  int64_t steps(bool one, int32_t rows, int32_t width) const {
    if (!is_right_) return -1;
    const int along = one ? 0 : 1;
    if (axes_ == along + 2 ? shape_[along] != rows : axes_ != along + 1 || rows != 1) return -1;
    if (shape_[axes_ - 1] != width) return -1;
    return one ? 1 : shape_[0];
  }
  void* data() const { return data_; }
  bool is_tensor() const { return is_tensor_; }
  int axes() const { return axes_; }

 private:
  Py_buffer buffer_;
  bool has_buffer_ = false, is_right_ = false, is_tensor_ = false;
  int axes_ = 0;
  int64_t shape_[3];
  void* data_ = nullptr;

  bool is_buffer(const Bound& bound, PyObject* object, bool to_write) {
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (to_write ? PyBUF_WRITABLE : 0);
    has_buffer_ = PyObject_GetBuffer(object, &buffer_, flags) == 0;
    if (!has_buffer_ || !buffer_.format || std::strcmp(buffer_.format, bound.stream.is_double() ? "d" : "f")) return false;
    data_ = buffer_.buf;
    return has_axes(buffer_.ndim, buffer_.shape);
  }

  bool is_tensor(const Bound& bound, PyObject* object) {
    constexpr int cpu = 1;
    const nb::dlpack::dtype kind = bound.stream.is_double() ? nb::dtype<double>() : nb::dtype<float>();
    nb::dlpack::dltensor view;
    if (!bound.exchange || bound.exchange->view(object, &view)) return false;
    if (view.device.device_type != cpu || view.dtype != kind || !has_axes(view.ndim, view.shape)) return false;
    int64_t next = 1;
    for (int k = view.ndim - 1; k >= 0 && view.strides; next *= view.shape[k--])
      if (view.shape[k] != 1 && view.strides[k] != next) return false;
    data_ = static_cast<char*>(view.data) + view.byte_offset;
    return true;
  }

  template <typename Size>
  bool has_axes(int axes, const Size* shape) {
    if (axes < 1 || axes > 3) return false;
    axes_ = axes;
    for (int k = 0; k < axes; ++k) shape_[k] = int64_t(shape[k]);
    return true;
  }
};

void expect_idle(const Bound& bound) {
  if (bound.in_use) throw std::runtime_error("a stream takes one step after another, and another thread is at one");
}

void run(Bound& bound, const void* x, void* y, int64_t steps) {
  Stream& stream = bound.stream;
  expect_idle(bound);
  if (steps * stream.work() < kWorthReleasing) return stream.run(x, y, steps);
  bound.in_use = true;
  {
    nb::gil_scoped_release release;
    stream.run(x, y, steps);
  }
  bound.in_use = false;
}

// y, which is made where it is None; None where one of them is nothing that a step can be taken with.
nb::object step(Bound& bound, const nb::object& x, nb::object y) {
  const Stream& stream = bound.stream;
  const Numbers from(bound, x.ptr(), false);
  if (from.steps(true, stream.rows(), stream.input()) < 0) return nb::none();
  if (y.is_none()) {
    const nb::tuple& make = from.is_tensor() ? bound.tensors : bound.arrays;
    y = nb::steal(PyObject_CallObject(make[0].ptr(), make[from.axes()].ptr()));
    if (!y.is_valid()) throw nb::python_error();
  } else if (from.is_tensor() && (!nb::hasattr(y, "requires_grad") || nb::cast<bool>(y.attr("requires_grad")))) {
    return nb::none();  // what has a gradient is not to be written to
  }
  const Numbers to(bound, y.ptr(), true);
  if (to.axes() != from.axes() || to.is_tensor() != from.is_tensor() || to.steps(true, stream.rows(), stream.output()) < 0)
    return nb::none();
  run(bound, from.data(), to.data(), 1);
  return y;
}

bool block(Bound& bound, const nb::object& x, const nb::object& y) {
  const Stream& stream = bound.stream;
  const Numbers from(bound, x.ptr(), false), to(bound, y.ptr(), true);
  const int64_t steps = from.steps(false, stream.rows(), stream.input());
  if (steps < 0 || to.steps(false, stream.rows(), stream.output()) != steps) return false;
  run(bound, from.data(), to.data(), steps);
  return true;
}

size_t bytes_of(const Stream& stream, int32_t layer, int32_t part) {
  return size_t(stream.rows()) * stream.layer(layer).parts.at(part).width * (stream.is_double() ? sizeof(double) : sizeof(float));
}

}  // namespace

void add_stream(nb::module_& module) {
  nb::class_<Bound>(module, "Stream", "Layers that take one step after another, and their state.")
      .def("__init__", [](Bound* self, bool is_double, int32_t rows, int32_t threads, const std::vector<Given>& layers,
                          const nb::object& tensor_type, const nb::tuple& arrays, const nb::tuple& tensors) {
        if (arrays.size() != 3 || tensors.size() != 3) throw std::invalid_argument("(function, arguments, arguments) is expected");
        new (self) Bound{{is_double, rows, threads, checked(is_double, rows, layers)},
                         tensor_type, exchange_of(tensor_type), arrays, tensors};
      }, nb::arg("is_double"), nb::arg("rows"), nb::arg("threads"), nb::arg("layers"), nb::arg("tensor_type"),
         nb::arg("arrays"), nb::arg("tensors"))
      .def("step", &step, nb::arg("x"), nb::arg("y").none(), "Takes a step, and gives y, or a new one where that is None; "
           "None where x or y is nothing that it can be taken with.")
      .def("block", &block, nb::arg("x"), nb::arg("y"), "Takes as many steps as x has; false where x or y does not do.")
      .def("read", [](const Bound& bound, int32_t layer, int32_t part, uintptr_t into) {
             expect_idle(bound);
             std::memcpy(reinterpret_cast<void*>(into), bound.stream.state(layer, part), bytes_of(bound.stream, layer, part));
           }, nb::arg("layer"), nb::arg("part"), nb::arg("into"), "Copies a part of a layer's state, (rows, width).")
      .def("write", [](Bound& bound, int32_t layer, int32_t part, uintptr_t from) {
             expect_idle(bound);
             std::memcpy(bound.stream.state(layer, part), reinterpret_cast<const void*>(from), bytes_of(bound.stream, layer, part));
           }, nb::arg("layer"), nb::arg("part"), nb::arg("from_"), "Sets a part of a layer's state.");
}
