// The programs of all cells, forward and backward, beside a plain loop in double: in one thread and in several, with the
// units of a step shared out in a team, from several callers at once, and after a fork.
//   recurrence_test PROGRAMS [OPENMP]
// PROGRAMS is what programs.py writes; OPENMP a library whose threads are to be used, in place of the core's own.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "instruction_sets.hpp"
#include "program.hpp"

namespace {

using recurra::Kind;
using recurra::Op;
using Flags = std::vector<uint8_t>;

constexpr int kSkipped = 77;  // as CMakeLists.txt has it

std::atomic<int> faults{0};

void check(bool right, const std::string& what) {
  if (right) return;
  std::cerr << "failed: " + what + "\n";
  ++faults;
}

// --- what is run ------------------------------------------------------------------------------------------------------

// What a program needs of an array: so many columns, for each step or row or once. Of no columns: nothing is read there.
struct Extent {
  int width = 0;
  bool by_step = false, by_row = false;
};

struct Listed {
  recurra::Program program;
  std::vector<std::string> keys;  // of its arrays
  std::vector<Extent> extents;
  std::vector<std::string> matrices;  // one that is transposed has the name of what it is made from
  std::vector<bool> transposed;
};

struct Cell {
  std::string name;
  Listed drop, keep, backward;
  bool is_large() const {
    int widest = 0;
    for (const auto& slot : keep.program.slots) widest = std::max(widest, slot.width);
    return widest > 300;
  }
};

template <typename F>
void each(std::istream& in, F read) {
  size_t count = 0;
  in >> count;
  for (size_t k = 0; k < count && in; ++k) read();
}

Listed read(std::istream& in, bool backward) {
  Listed made;
  recurra::Program& p = made.program;
  each(in, [&] { in >> made.keys.emplace_back(); });
  each(in, [&] {
    int op;
    auto& i = p.instructions.emplace_back();
    in >> op >> i.d >> i.a >> i.b >> i.c >> i.aux;
    i.op = Op(op);
  });
  each(in, [&] {
    int kind;
    std::string number;  // it may be infinite, which a stream does not read
    auto& s = p.slots.emplace_back();
    in >> kind >> s.width >> s.array >> s.first >> s.column >> number;
    s.kind = Kind(kind);
    s.number = std::stod(number);
  });
  each(in, [&] {
    auto& f = p.fields.emplace_back();
    in >> f.width >> f.states >> f.initial >> f.old_slot >> f.carry >> f.given >> f.of_reset;
  });
  each(in, [&] {
    bool transposed;
    auto& m = p.matrices.emplace_back();
    in >> made.matrices.emplace_back() >> transposed >> m.operand >> m.width >> m.blocks;
    made.transposed.push_back(transposed);
  });
  each(in, [&] {
    auto& s = p.sums.emplace_back();
    in >> s.width >> s.array;
  });
  each(in, [&] { in >> p.cleared.emplace_back(); });
  p.cleared.push_back(-1);
  p.array_count = int32_t(made.keys.size());
  p.backward = backward;

  made.extents.resize(made.keys.size());
  const auto needs = [&](int array, Extent extent) {
    extent.width = std::max(extent.width, made.extents[array].width);
    made.extents[array] = extent;
  };
  for (const auto& s : p.slots) {
    if (s.kind == Kind::stream || s.kind == Kind::old) needs(s.array, {s.column + s.width, true, true});
    if (s.kind == Kind::old) needs(s.first, {s.width, false, true});
    if (s.kind == Kind::carry) needs(s.array, {s.width, false, true});
    if (s.kind == Kind::vector) needs(s.array, {s.width, false, false});
  }
  for (const auto& f : p.fields) {
    needs(f.initial, {f.width, false, true});
    if (!backward) needs(f.states, {f.width, true, true});
    if (backward) needs(f.carry, {f.width, false, true});
    if (backward) needs(f.given, {f.width, true, true});
    if (backward) needs(f.of_reset, {f.width, false, true});
  }
  for (const auto& s : p.sums) needs(s.array, {s.width, false, false});
  return made;
}

struct Case {
  int T, B;
  bool from_the_end;
  double valid, reset;  // how many steps are taken, and before how many the state is set anew
  bool more_resets, given;

  std::string words(const Cell& cell) const {
    std::string text = cell.name + " T" + std::to_string(T) + " B" + std::to_string(B) + (from_the_end ? " from the end" : "");
    if (valid < 1) text += " mask";
    if (reset > 0) text += more_resets ? " reset and more" : " reset";
    return text;
  }
};

// The same numbers on every machine, between 0 and 1, and the same for every type.
class Numbers {
 public:
  explicit Numbers(const std::string& key) {
    for (const char c : key) state_ = (state_ ^ uint64_t(c)) * 1099511628211u;
  }
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return float(state_ >> 40) / (1 << 24);
  }

 private:
  uint64_t state_ = 14695981039346656037u;
};

Flags drawn(const std::string& key, size_t count, double share) {
  Numbers numbers(key);
  Flags flags(count);
  for (auto& flag : flags) flag = numbers.next() < share;
  return flags;
}

// An array, exactly as large as it must be, and no better aligned than one in the middle of a tensor. Where rows may lie
// apart, they do, and steps too; what lies between them is not a number, and remains so.
template <typename T>
struct Memory {
  std::vector<T> all;
  int64_t step = 0, row = 0;

  T* data() { return all.data() + 1; }
  T* at(int t, int m) { return data() + t * step + m * row; }
};

template <typename T>
using Arrays = std::map<std::string, Memory<T>>;

bool begins(const std::string& key, std::initializer_list<const char*> with) {
  const std::string word = key.substr(0, key.find('.'));
  return std::any_of(with.begin(), with.end(), [&](const char* one) { return word == one; });
}

template <typename T>
Memory<T> made(const std::string& key, const Extent& extent, const Case& at) {
  const bool apart = begins(key, {"z", "dz", "input", "dinput", "given"});
  const int steps = extent.by_step ? at.T : 1, rows = extent.by_row ? at.B : 1;
  Memory<T> made;
  made.row = extent.width + apart;
  made.step = at.B * made.row + 2 * apart;
  made.all.assign(1 + (steps - 1) * made.step + (rows - 1) * made.row + extent.width, T(NAN));
  if (begins(key, {"states", "kept", "dz", "dproduct", "operand", "dinput"})) return made;  // to be written
  Numbers numbers(key);
  for (int t = 0; t < steps; ++t)
    for (int m = 0; m < rows; ++m)
      for (int i = 0; i < extent.width; ++i) {
        const float number = numbers.next();
        T& place = made.at(t, m)[i];
        if (begins(key, {"begun", "initial"}))  // one sum of weights is divided by, so it is positive; or steps are counted
          place = extent.width == 1 ? std::floor(5 * number) : 0.25f + 0.75f * number;
        else if (begins(key, {"constant"}))  // periods
          place = 1 + std::floor(3 * number);
        else
          place = 2 * number - 1;
      }
  return made;
}

// A matrix as it is given, its blocks below each other, a number between each row and the next.
template <typename T>
struct Matrix {
  int rows, columns;  // of a block
  std::vector<T> all;

  int stride() const { return columns + 1; }
  size_t block(int n) const { return size_t(n) * rows * stride(); }
};

template <typename T>
Matrix<T> matrix_of(const Listed& one, size_t k) {
  const recurra::Matrix& m = one.program.matrices[k];
  int rows = m.width / m.blocks, columns = m.operand / m.blocks;
  if (one.transposed[k]) std::swap(rows, columns);
  Matrix<T> made{rows, columns, {}};
  made.all.resize(made.block(m.blocks) - 1, T(NAN));
  Numbers numbers(one.matrices[k]);
  const float largest = 1.5f / std::sqrt(float(columns));
  for (int j = 0; j < m.blocks * rows; ++j)
    for (int i = 0; i < columns; ++i) made.all[size_t(j) * made.stride() + i] = (2 * numbers.next() - 1) * largest;
  return made;
}

// The arrays of a program, those that are not there yet made.
template <typename T>
void complete(const Listed& one, const Case& at, Arrays<T>& arrays) {
  for (size_t k = 0; k < one.keys.size(); ++k)
    if (one.extents[k].width) arrays.try_emplace(one.keys[k], made<T>(one.keys[k], one.extents[k], at));
}

// Which steps are taken, and before which the state is set anew; empty where nothing is said.
struct Flagged {
  explicit Flagged(const Case& at) {
    if (at.valid < 1) valid = drawn("valid", size_t(at.T) * at.B, at.valid);
    if (at.reset > 0) resets = drawn("resets", size_t(at.T + at.more_resets) * at.B, at.reset);
  }
  Flags valid, resets;
};

// --- the core ---------------------------------------------------------------------------------------------------------

template <typename T>
void run(const Listed& one, const Case& at, Arrays<T>& arrays, int threads) {
  constexpr bool is_double = sizeof(T) == 8;
  complete(one, at, arrays);
  const Flagged flags(at);
  recurra::Program program = one.program;
  program.is_double = is_double;
  recurra::Call call{at.T, at.B, threads, at.from_the_end, {}, {}, flags.valid.empty() ? nullptr : flags.valid.data(),
                     flags.resets.empty() ? nullptr : flags.resets.data(), at.more_resets};
  for (size_t k = 0; k < one.keys.size(); ++k) {
    const bool wanted = !begins(one.keys[k], {"initial", "of_reset"}) || call.resets;
    const bool there = one.extents[k].width && wanted && (at.given || !begins(one.keys[k], {"given"}));
    Memory<T>* memory = there ? &arrays.at(one.keys[k]) : nullptr;
    call.arrays.push_back(memory ? recurra::Array{memory->data(), memory->step, memory->row} : recurra::Array{nullptr, 0, 0});
  }
  std::vector<Matrix<T>> matrices;
  std::vector<std::vector<T>> panels;
  std::vector<recurra::Packing> todo;
  matrices.reserve(one.matrices.size());
  for (size_t k = 0; k < one.matrices.size(); ++k) {
    const Matrix<T>& matrix = matrices.emplace_back(matrix_of<T>(one, k));
    const int blocks = program.matrices[k].blocks;
    const int64_t size = recurra::packed_size(is_double, matrix.rows, matrix.columns, one.transposed[k]);
    std::vector<T>& all = panels.emplace_back(size_t(size * blocks), T(NAN));
    for (int n = 0; n < blocks; ++n)
      todo.push_back({matrix.all.data() + matrix.block(n), matrix.rows, matrix.columns, matrix.stride(),
                      bool(one.transposed[k]), all.data() + n * size});
    call.panels.push_back(all.data());
  }
  recurra::pack(is_double, todo, threads);
  recurra::run(program, call);
}

// --- the plain loop ---------------------------------------------------------------------------------------------------

double on_number(Op op, double a, double b, double c) {
  switch (op) {
    case Op::add: return a + b;
    case Op::sub: return a - b;
    case Op::mul: return a * b;
    case Op::div: return a / b;
    case Op::neg: return -a;
    case Op::abs: return std::fabs(a);
    case Op::sign: return (a > 0) - (a < 0);
    case Op::floor: return std::floor(a);
    case Op::exp: return std::exp(a);
    case Op::log: return std::log(a);
    case Op::sqrt: return std::sqrt(a);
    case Op::rsqrt: return 1 / std::sqrt(a);
    case Op::sin: return std::sin(a);
    case Op::cos: return std::cos(a);
    case Op::tanh: return std::tanh(a);
    case Op::sigmoid: return 1 / (1 + std::exp(-a));
    case Op::relu: return std::max(a, 0.0);
    case Op::softplus: return std::log1p(std::exp(a));
    case Op::log_sigmoid: return -std::log1p(std::exp(-a));
    case Op::pow: return std::pow(a, b);
    case Op::remainder: return a - std::floor(a / b) * b;
    case Op::maximum: return std::max(a, b);
    case Op::minimum: return std::min(a, b);
    case Op::lt: return a < b;
    case Op::le: return a <= b;
    case Op::gt: return a > b;
    case Op::ge: return a >= b;
    case Op::eq: return a == b;
    case Op::ne: return a != b;
    case Op::where: return a != 0 ? b : c;
    case Op::fma: return a * b + c;
    case Op::fnma: return c - a * b;
    case Op::tanh_slope: return a * (1 - b * b);
    case Op::sigmoid_slope: return a * b * (1 - b);
    case Op::copy: return a;
    default: throw std::logic_error("an operation that the plain loop does not know");
  }
}

// One row after another through all steps, one instruction after another, one number after another.
class Plainly {
 public:
  Plainly(const Listed& one, const Case& at, Arrays<double>& arrays)
      : one_(one), program_(one.program), at_(at), arrays_(arrays), flags_(at), places_(program_.slots.size()) {
    complete(one, at, arrays);
    for (size_t k = 0; k < one.matrices.size(); ++k) matrices_.push_back(matrix_of<double>(one, k));
    for (const auto& slot : program_.slots) own_.emplace_back(slot.width, slot.number);
  }

  void run() {
    const bool down = at_.from_the_end != program_.backward;
    for (int m = 0; m < at_.B; ++m)
      for (int n = 0; n < at_.T; ++n) step(down ? at_.T - 1 - n : n, m);
  }

 private:
  const Listed& one_;
  const recurra::Program& program_;
  const Case& at_;
  Arrays<double>& arrays_;
  const Flagged flags_;
  std::vector<double*> places_;
  std::vector<std::vector<double>> own_;
  std::vector<Matrix<double>> matrices_;

  Memory<double>& array(int k) { return arrays_.at(one_.keys[k]); }

  double* before(const recurra::Slot& slot, int t, int m) {
    const bool is_first = t == (at_.from_the_end ? at_.T - 1 : 0);
    return is_first ? array(slot.first).at(0, m) : array(slot.array).at(at_.from_the_end ? t + 1 : t - 1, m);
  }

  void step(int t, int m) {
    const size_t crossed = size_t(at_.from_the_end ? t + 1 : t) * at_.B + m;  // resets lie between steps
    const bool anew = crossed < flags_.resets.size() && flags_.resets[crossed];
    const bool taken = flags_.valid.empty() || flags_.valid[size_t(t) * at_.B + m];
    for (size_t s = 0; s < places_.size(); ++s) {
      const recurra::Slot& slot = program_.slots[s];
      places_[s] = own_[s].data();
      if (slot.kind == Kind::stream) places_[s] = array(slot.array).at(t, m) + slot.column;
      if (slot.kind == Kind::old) places_[s] = before(slot, t, m);
      if (slot.kind == Kind::carry) places_[s] = array(slot.array).at(0, m);
      if (slot.kind == Kind::vector) places_[s] = array(slot.array).data();
    }
    for (const auto& f : program_.fields) {
      if (anew && f.old_slot >= 0) places_[f.old_slot] = array(f.initial).at(0, m);
      for (int i = 0; i < f.width && program_.backward && at_.given; ++i)
        array(f.carry).at(0, m)[i] += array(f.given).at(t, m)[i];
    }
    if (taken)
      for (const auto& i : program_.instructions) run(i);
    else
      for (const int32_t s : program_.cleared)
        if (s >= 0) std::fill_n(places_[s], program_.slots[s].width, 0.0);
    for (const auto& f : program_.fields) {
      if (!taken && !program_.backward) std::copy_n(places_[f.old_slot], f.width, array(f.states).at(t, m));
      for (int i = 0; i < f.width && program_.backward && anew; ++i)
        array(f.of_reset).at(0, m)[i] += std::exchange(array(f.carry).at(0, m)[i], 0.0);
    }
  }

  double number(int slot, int i) const {
    if (slot < 0) return 0;
    return program_.slots[slot].kind == Kind::number ? program_.slots[slot].number : places_[slot][i];
  }

  void run(const recurra::Instruction& i) {
    const int count = program_.slots[i.op == Op::row_sum || i.op == Op::row_dot || i.op == Op::accumulate ? i.a : i.d].width;
    switch (i.op) {
      case Op::broadcast: std::fill_n(places_[i.d], count, number(i.a, 0)); return;
      case Op::move: std::copy_n(places_[i.a], count, places_[i.d]); return;
      case Op::row_sum:
      case Op::row_dot: {
        double sum = i.aux ? *places_[i.d] : 0;
        for (int k = 0; k < count; ++k) sum += number(i.a, k) * (i.op == Op::row_dot ? number(i.b, k) : 1);
        *places_[i.d] = sum;
        return;
      }
      case Op::accumulate:
        for (int k = 0; k < count; ++k) array(program_.sums[i.aux].array).data()[k] += number(i.a, k);
        return;
      case Op::product: multiply(i); return;
      default:
        for (int k = 0; k < count; ++k) places_[i.d][k] = on_number(i.op, number(i.a, k), number(i.b, k), number(i.c, k));
    }
  }

  void multiply(const recurra::Instruction& i) {
    const Matrix<double>& matrix = matrices_[i.aux];
    const int width = program_.matrices[i.aux].width, blocks = program_.matrices[i.aux].blocks;
    const bool transposed = one_.transposed[i.aux];
    const int K = program_.matrices[i.aux].operand / blocks, N = width / blocks;
    std::vector<double> found(width);
    for (int j = 0; j < width; ++j) {
      found[j] = number(i.c, j);
      const double* const block = matrix.all.data() + matrix.block(j / N);
      for (int k = 0; k < K; ++k) {
        const int row = transposed ? k : j % N, column = transposed ? j % N : k;
        found[j] += places_[i.a][j / N * K + k] * block[size_t(row) * matrix.stride() + column];
      }
    }
    std::copy(found.begin(), found.end(), places_[i.d]);
  }
};

// --- one beside the other -----------------------------------------------------------------------------------------------

// How far apart they may be, as a share of the largest number of an array: layer normalisation takes large numbers from
// each other.
template <typename T>
constexpr double kTolerance = sizeof(T) == 8 ? 1e-12 : 1e-4;

template <typename T>
void compare(const Arrays<double>& expected, const Arrays<T>& found, const std::string& what) {
  for (const auto& [key, memory] : found) {
    const std::vector<double>& right = expected.at(key).all;
    double largest = 0.01, off = 0;
    bool same = right.size() == memory.all.size();
    for (size_t i = 0; same && i < right.size(); ++i) {
      const double number = memory.all[i];
      same = std::isfinite(right[i]) == std::isfinite(number) && std::isnan(right[i]) == std::isnan(number);
      if (!std::isfinite(right[i])) continue;
      largest = std::max(largest, std::fabs(right[i]));
      off = std::max(off, std::fabs(number - right[i]));
    }
    check(same && off <= kTolerance<T> * largest, what + ", " + key + ": off by " + std::to_string(off / largest));
  }
}

// What the plain loop gives.
Arrays<double> expected(const Cell& cell, const Case& at) {
  Arrays<double> arrays;
  Plainly(cell.keep, at, arrays).run();
  Plainly(cell.backward, at, arrays).run();
  return arrays;
}

template <typename T>
void check(const Cell& cell, const Case& at, const Arrays<double>& right, int threads) {
  const std::string what = at.words(cell) + (sizeof(T) == 8 ? ", double, " : ", float, ") + std::to_string(threads) + " threads";
  Arrays<T> without, with;
  run(cell.drop, at, without, threads);
  compare(right, without, what + ", nothing kept");
  run(cell.keep, at, with, threads);
  run(cell.backward, at, with, threads);
  compare(right, with, what);
}

const Case kCases[] = {
  {1, 1, false, 1, 0, false, true},       {5, 33, false, 1, 0, false, true},     {4, 30, true, 0.6, 0, false, true},
  {5, 3, false, 1, 0.4, false, false},    {6, 17, true, 0.7, 0.3, true, true},   {7, 14, false, 0.5, 0.3, true, true},
  {6, 2, true, 0.4, 0.3, false, true},
};

// Of large matrices, with fewer rows than threads.
const Case kLargeCases[] = {
  {3, 1, false, 1, 0, false, true}, {2, 2, true, 1, 0, false, true}, {2, 2, false, 0.5, 0.3, false, true},
};

// Of large matrices, with more rows than a tile: of a cell whose plain loop is quick.
const Case kManyRows{2, 60, false, 0.9, 0, false, true};

void check_all(const Cell& cell) {
  std::vector<Case> cases(std::begin(kCases), std::end(kCases));
  if (cell.is_large()) cases.assign(std::begin(kLargeCases), std::end(kLargeCases));
  if (cell.is_large() && cell.name.rfind("elman/", 0) == 0) cases.push_back(kManyRows);
  for (const Case& at : cases) {
    const Arrays<double> right = expected(cell, at);
    for (const int threads : {1, 2, 3}) {
      check<double>(cell, at, right, threads);
      check<float>(cell, at, right, threads);
    }
  }
}

// Each caller runs all cells, each another one at first.
void check_callers(const std::vector<Cell>& cells, const Case& at) {
  std::vector<Arrays<double>> right;
  for (const Cell& cell : cells) right.push_back(expected(cell, at));
  std::vector<std::thread> callers;
  for (size_t k = 0; k < 3; ++k)
    callers.emplace_back([&, k] {
      for (size_t n = 0; n < cells.size(); ++n) {
        const size_t which = (n + k * cells.size() / 3) % cells.size();
        check<double>(cells[which], at, right[which], 2);
      }
    });
  for (std::thread& caller : callers) caller.join();
}

// Sums of outer products, of columns of wider rows, written and added to, beside a plain loop; nothing behind the last
// number of an array is read.
template <typename T>
void check_outer(int rows, int width, int columns, int threads) {
  const int d_stride = width + 3, v_stride = columns + 1, out_stride = columns + 2;
  const auto number = [](size_t i) { return T(int(i * 7919 % 31) - 15) / T(16); };
  std::vector<T> d(size_t(rows - 1) * d_stride + width), v(size_t(rows - 1) * v_stride + columns);
  for (size_t i = 0; i < d.size(); ++i) d[i] = number(i);
  for (size_t i = 0; i < v.size(); ++i) v[i] = number(3 * i + 1);
  std::vector<T> out(size_t(width - 1) * out_stride + columns, T(2));
  std::vector<double> right(out.begin(), out.end());
  for (int times = 1; times <= 2; ++times) {
    recurra::outer(sizeof(T) == 8, {{d.data(), v.data(), out.data(), rows, width, columns, d_stride, v_stride, out_stride, times > 1}}, threads);
    for (int m = 0; m < width; ++m)
      for (int n = 0; n < columns; ++n) {
        double sum = 0;
        for (int k = 0; k < rows; ++k) sum += double(d[size_t(k) * d_stride + m]) * double(v[size_t(k) * v_stride + n]);
        right[size_t(m) * out_stride + n] = times * sum;
      }
    double off = 0;
    for (size_t i = 0; i < out.size(); ++i) off = std::max(off, std::abs(double(out[i]) - right[i]));
    check(off <= (sizeof(T) == 8 ? 1e-11 : 1e-3),
          "outer products of " + std::to_string(rows) + " rows, " + std::to_string(width) + " x " + std::to_string(columns) +
              ", " + std::to_string(threads) + " threads: off by " + std::to_string(off));
  }
}

void check_outers() {
  for (const int rows : {1, 5, 191, 400})
    for (const int width : {1, 16, 33, 200})
      for (const int columns : {1, 13, 14, 15, 40})
        for (const int threads : {1, 3}) {
          check_outer<float>(rows, width, columns, threads);
          check_outer<double>(rows, width, columns, threads);
        }
}

#ifdef RECURRA_FORKS
// Here and in a process that is forked, whose parent's threads it does not have.
void check_fork(const Cell& cell, const Case& at) {
  const Arrays<double> right = expected(cell, at);
  check<double>(cell, at, right, 3);
  const int before = faults;
  const pid_t child = fork();
  check<double>(cell, at, right, 3);
  if (!child) _exit(faults != before);
  int status = 1;
  waitpid(child, &status, 0);
  check(status == 0, cell.name + " in a process that was forked");
}
#endif

}  // namespace

int main(int count, char** words) {
  const char* wanted = std::getenv("RECURRA_ISA");
  for (const recurra::InstructionSet& set : recurra::instruction_sets())
    if (wanted && std::string(wanted) == set.kernels->name && !set.runs_here) return kSkipped;
  if (count > 2 && !dlopen(words[2], RTLD_NOW | RTLD_GLOBAL)) return kSkipped;
  std::ifstream in(count > 1 ? words[1] : "");
  std::vector<Cell> cells;
  for (std::string name; in >> name;) {
    Cell& cell = cells.emplace_back();
    cell.name = name;
    cell.drop = read(in, false);
    cell.keep = read(in, false);
    cell.backward = read(in, true);
  }
  if (cells.empty() || !in.eof()) {
    std::cerr << "recurrence_test PROGRAMS: they are what native/tests/programs.py writes\n";
    return 1;
  }

  check_outers();
  for (const Cell& cell : cells) check_all(cell);
  std::vector<Cell> small;
  std::copy_if(cells.begin(), cells.end(), std::back_inserter(small), [](const Cell& cell) { return !cell.is_large(); });
  check_callers(small, kCases[4]);
#ifdef RECURRA_FORKS
  check_fork(small.back(), kCases[4]);
  check_fork(*std::find_if(cells.begin(), cells.end(), [](const Cell& cell) { return cell.is_large(); }), kLargeCases[0]);
#endif
  return faults != 0;
}
