// The recurrence for one instruction set; compiled with other flags for each (see recurrence.hpp).
#include "recurrence.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "functions.hpp"
#include "vectors.hpp"

namespace recurra {
namespace RECURRA_ISA {

constexpr int kVectors = 2;  // vectors in a row of a panel
template <typename T>
constexpr int kPanel = kVectors * kLanes<T>;
constexpr int kTile = RECURRA_VECTOR_BYTES == 64 ? 14 : 6;  // rows whose sums fill the registers
constexpr int kSeveral = kTile > 6 ? 4 : 2;  // panels at a time for two or three rows
constexpr int kAhead = 16;  // rows of a panel that are fetched before they are needed
constexpr size_t kLarge = 3 << 18;  // bytes of matrices
constexpr int kChunk = 512;  // numbers that an instruction is run over before the next one

// --- products -------------------------------------------------------------------------------------------------------

// Some panels of a matrix, of kPanel columns each, a panel a row after another, filled up with zeros: what the product
// reads one number after another. With `transposed`, of the matrix's transpose.
template <typename T>
void pack(const Packing& p, int32_t first, int32_t last) {
  constexpr int kBlock = 16;  // numbers of a row that go to as many rows of a panel while these are in cache
  const T* W = static_cast<const T*>(p.matrix);
  const int width = p.transposed ? p.columns : p.rows, operand = p.transposed ? p.rows : p.columns;
  const size_t stride = p.stride;
  for (int panel = first; panel < last; ++panel) {
    const int j = panel * kPanel<T>, count = std::min(kPanel<T>, width - j);
    T* const out = static_cast<T*>(p.panels) + size_t(panel) * kPanel<T> * operand;
    if (count < kPanel<T>) std::fill_n(out, size_t(kPanel<T>) * operand, T(0));
    if (p.transposed) {
      for (int k = 0; k < operand; ++k) std::copy_n(W + k * stride + j, count, out + size_t(k) * kPanel<T>);
      continue;
    }
    int k = 0;
    for (; k + kBlock <= operand; k += kBlock)
      for (int n = 0; n < count; ++n) {
        const T* const row = W + (j + n) * stride + k;
        for (int i = 0; i < kBlock; ++i) out[size_t(k + i) * kPanel<T> + n] = row[i];
      }
    for (; k < operand; ++k)
      for (int n = 0; n < count; ++n) out[size_t(k) * kPanel<T> + n] = W[(j + n) * stride + k];
  }
}

// Rows times a matrix in panels; to C, with what is added.
template <typename T>
struct Operands {
  const T* A;
  const T* panels;
  size_t panel;  // numbers of a panel
  T* C;
  const T* added;  // or null
  int a_stride, c_stride, added_stride, operand;

  Operands below(int rows) const {
    Operands o = *this;
    o.A += size_t(rows) * a_stride;
    o.C += size_t(rows) * c_stride;
    if (added) o.added += size_t(rows) * added_stride;
    return o;
  }
};

// M rows of A times P panels from column j on, of which so many columns count: all, or those of the first V vectors. With
// few rows, several panels at a time, and several sums for each number of the result, keep as many sums under way as an
// addition takes to be ready.
template <typename T, int M, int P, int V = kVectors>
void multiply(const Operands<T>& o, int j, int count) {
  constexpr int N = P * V;
  constexpr int S = M * N < 8 ? 8 / (M * N) : 1;
  const T* const panels = o.panels + size_t(j / kPanel<T>) * o.panel;
  const T* const added = o.added ? o.added + j : nullptr;
  T* const C = o.C + j;
  const T* A = o.A;
  const size_t a_stride = o.a_stride, panel = o.panel;
  const int operand = o.operand;
  Vector<T> sums[S][M][N] = {};
  const bool whole = count == N * kLanes<T>;
  if (added && whole)
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < N; ++v) sums[0][m][v] = load(added + m * o.added_stride + v * kLanes<T>);
  const auto add = [&](Vector<T>(&to)[M][N], int k) {
    for (int p = 0; p < P; ++p) {
      const T* const row = panels + p * panel + size_t(k) * kPanel<T>;
      for (int v = 0; v < V; ++v) __builtin_prefetch(row + kAhead * kPanel<T> + v * kLanes<T>);
      Vector<T> columns[V];
      for (int v = 0; v < V; ++v) columns[v] = load(row + v * kLanes<T>);
      for (int m = 0; m < M; ++m) {  // one number at a time in a register, so that the sums have all others
        const Vector<T> number = spread(A[m * a_stride + k]);
        for (int v = 0; v < V; ++v) to[m][p * V + v] += number * columns[v];
      }
    }
  };
  int k = 0;
  for (; k + S <= operand; k += S)
    for (int s = 0; s < S; ++s) add(sums[s], k + s);
  if constexpr (S > 1) {
    for (; k < operand; ++k) add(sums[0], k);
    for (int s = 1; s < S; ++s)
      for (int m = 0; m < M; ++m)
        for (int v = 0; v < N; ++v) sums[0][m][v] += sums[s][m][v];
  }
  if (whole) {
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < N; ++v) store(C + m * o.c_stride + v * kLanes<T>, sums[0][m][v]);
    return;
  }
  for (int v = 0; v < N; ++v) {
    const int some = std::min(kLanes<T>, count - v * kLanes<T>);
    for (int m = 0; m < M; ++m) {
      if (added) sums[0][m][v] += load_some(added + m * o.added_stride + v * kLanes<T>, some);
      store_some(C + m * o.c_stride + v * kLanes<T>, sums[0][m][v], some);
    }
  }
}

// M rows times the panels from column j on, one after another.
template <typename T, int M>
void multiply_panels(const Operands<T>& o, int j, int width) {
  for (; j + kPanel<T> <= width; j += kPanel<T>) multiply<T, M, 1>(o, j, kPanel<T>);
  if (j + kLanes<T> < width)
    multiply<T, M, 1>(o, j, width - j);
  else if (j < width)
    multiply<T, M, 1, 1>(o, j, width - j);
}

template <typename T, int... M>
constexpr auto of_every_count(std::integer_sequence<int, M...>) {
  return std::array<void (*)(const Operands<T>&, int, int), sizeof...(M)>{multiply_panels<T, M + 1>...};
}
template <typename T>
constexpr auto kMultiplyPanels = of_every_count<T>(std::make_integer_sequence<int, kTile>());  // by rows, from one on

// Few rows: as many panels at a time as keep the registers full. Returns the first column that is left.
template <typename T, int M, int P>
int multiply_few(const Operands<T>& o, int width, int j = 0) {
  for (; j + P * kPanel<T> <= width; j += P * kPanel<T>) multiply<T, M, P>(o, j, P * kPanel<T>);
  return j;
}

template <typename T>
void product(int rows, int width, const Operands<T>& o) {
  int j = 0;
  if (rows == 1) j = multiply_few<T, 1, 2>(o, width, multiply_few<T, 1, 4>(o, width));
  if (rows == 2) j = multiply_few<T, 2, kSeveral>(o, width);
  if (rows == 3) j = multiply_few<T, 3, kSeveral>(o, width);
  if constexpr (kTile > 6) {
    if (rows == 4) j = multiply_few<T, 4, 3>(o, width);
    if (rows == 5) j = multiply_few<T, 5, 2>(o, width);
    if (rows == 6) j = multiply_few<T, 6, 2>(o, width);
  }
  const int pieces = (rows + kTile - 1) / kTile;
  if (pieces == 1) return kMultiplyPanels<T>[rows - 1](o, j, width);
  constexpr int kMost = 4;  // pieces of a tile
  if (pieces > kMost) {
    for (int first = 0; first < rows; first += kMost * kTile)
      product(std::min(rows - first, kMost * kTile), width, o.below(first));
    return;
  }
  Operands<T> piece[kMost];
  int count[kMost];
  for (int p = 0, first = 0; p < pieces; ++p) {
    const int next = rows * (p + 1) / pieces;
    piece[p] = o.below(first);
    count[p] = next - first;
    first = next;
  }
  for (; j < width; j += kPanel<T>)  // a panel that one piece has brought into the first-level cache serves all
    for (int p = 0; p < pieces; ++p) kMultiplyPanels<T>[count[p] - 1](piece[p], j, std::min(j + kPanel<T>, width));
}

// --- sums of outer products -------------------------------------------------------------------------------------------

// Rows of kPanel numbers times M numbers of as many other rows, summed over rows and added to a tile.
template <typename T, int M>
void outer(int rows, const T* d, size_t d_stride, const T* v, size_t v_stride, T* tile) {
  Vector<T> sums[M][kVectors];
  for (int m = 0; m < M; ++m)
    for (int i = 0; i < kVectors; ++i) sums[m][i] = load(tile + m * kPanel<T> + i * kLanes<T>);
  for (; rows > 0; --rows, d += d_stride, v += v_stride) {
    Vector<T> columns[kVectors];
    for (int i = 0; i < kVectors; ++i) columns[i] = load(d + i * kLanes<T>);
    for (int m = 0; m < M; ++m) {
      const Vector<T> number = spread(v[m]);
      for (int i = 0; i < kVectors; ++i) sums[m][i] += number * columns[i];
    }
  }
  for (int m = 0; m < M; ++m)
    for (int i = 0; i < kVectors; ++i) store(tile + m * kPanel<T> + i * kLanes<T>, sums[m][i]);
}

template <typename T, int M = kTile>
void outer_piece(int columns, int rows, const T* d, size_t d_stride, const T* v, size_t v_stride, T* tile) {
  if constexpr (M > 1) {
    if (columns < M) return outer_piece<T, M - 1>(columns, rows, d, d_stride, v, v_stride, tile);
  }
  outer<T, M>(rows, d, d_stride, v, v_stride, tile);
}

// Part number `part` of so many of the sum over rows of D ⊗ V: by panels of D, and by pieces of V where D has few. What is
// read again and again is first brought together: rows that lie a power of two apart would drive each other out of cache.
template <typename T>
void outer_part(const Outer& o, int32_t part, int32_t parts) {
  constexpr int kRows = 192;  // rows of a panel of D that stay in the first-level cache while all pieces of V meet them
  constexpr int kFew = 4;     // panels up to which V is read where it lies
  const int panels = (o.width + kPanel<T> - 1) / kPanel<T>, pieces = (o.columns + kTile - 1) / kTile;
  const int units = panels * pieces, begin = int(int64_t(units) * part / parts), end = int(int64_t(units) * (part + 1) / parts);
  if (begin == end) return;
  const bool brings_v = end - begin > kFew * pieces;
  const size_t tile = size_t(kTile) * kPanel<T>;
  std::vector<T> tiles((end - begin) * tile, T(0)), panel(size_t(kRows) * kPanel<T>), brought(brings_v ? size_t(kRows) * o.columns : 0);
  const auto column = [&](int piece) { return o.columns * piece / pieces; };
  for (int first = 0; first < o.rows; first += kRows) {
    const int rows = std::min(kRows, o.rows - first);
    const T* const D = static_cast<const T*>(o.d) + size_t(first) * o.d_stride;
    const T* const V = static_cast<const T*>(o.v) + size_t(first) * o.v_stride;
    if (brings_v)
      for (int piece = 0; piece < pieces; ++piece) {
        const int c = column(piece), count = column(piece + 1) - c;
        T* to = brought.data() + size_t(kRows) * c;
        for (int k = 0; k < rows; ++k, to += count) std::copy_n(V + k * o.v_stride + c, count, to);
      }
    for (int unit = begin, last = -1; unit < end; ++unit) {
      const int j = unit / pieces * kPanel<T>, count = std::min(kPanel<T>, o.width - j), piece = unit % pieces;
      const int c = column(piece), columns = column(piece + 1) - c;
      const bool in_place = pieces == 1 && count == kPanel<T>;
      if (!in_place && j != last)
        for (int k = 0; k < rows; ++k) {
          T* const to = panel.data() + size_t(k) * kPanel<T>;
          std::fill(std::copy_n(D + k * o.d_stride + j, count, to), to + kPanel<T>, T(0));
        }
      last = j;
      outer_piece<T>(columns, rows, in_place ? D + j : panel.data(), in_place ? o.d_stride : kPanel<T>,
                     brings_v ? brought.data() + size_t(kRows) * c : V + c, brings_v ? columns : o.v_stride,
                     tiles.data() + (unit - begin) * tile);
    }
  }
  for (int unit = begin; unit < end; ++unit) {
    const int j = unit / pieces * kPanel<T>, count = std::min(kPanel<T>, o.width - j), piece = unit % pieces;
    const int c = column(piece), columns = column(piece + 1) - c;
    const T* const from = tiles.data() + (unit - begin) * tile;
    for (int n = 0; n < count; ++n) {
      T* const out = static_cast<T*>(o.out) + size_t(j + n) * o.out_stride + c;
      for (int m = 0; m < columns; ++m) out[m] = o.adds ? out[m] + from[m * kPanel<T> + n] : from[m * kPanel<T> + n];
    }
  }
}

// --- instructions on each number --------------------------------------------------------------------------------------

template <typename T, typename F>
inline void each(int count, T* d, const T* a, F f) {
  for (int i = 0; i < count; i += kLanes<T>) store(d + i, f(load(a + i)));
}
template <typename T, typename F>
inline void each(int count, T* d, const T* a, const T* b, F f) {
  for (int i = 0; i < count; i += kLanes<T>) store(d + i, f(load(a + i), load(b + i)));
}

template <typename T>
void pointwise(Op op, int count, T* d, const T* a, const T* b, const T* c) {
  using V = Vector<T>;
  const V zero = spread(T(0)), one = spread(T(1));
  switch (op) {
    case Op::add: return each(count, d, a, b, [](V x, V y) { return x + y; });
    case Op::sub: return each(count, d, a, b, [](V x, V y) { return x - y; });
    case Op::mul: return each(count, d, a, b, [](V x, V y) { return x * y; });
    case Op::div: return each(count, d, a, b, [](V x, V y) { return x / y; });
    case Op::neg: return each(count, d, a, [](V x) { return -x; });
    case Op::abs: return each(count, d, a, [](V x) { return vabs(x); });
    case Op::sign: return each(count, d, a, [](V x) { return vsign(x); });
    case Op::floor: return each(count, d, a, [](V x) { return vfloor(x); });
    case Op::exp: return each(count, d, a, [](V x) { return vexp(x); });
    case Op::log: return each(count, d, a, [](V x) { return vlog(x); });
    case Op::sqrt: return each(count, d, a, [](V x) { return vsqrt(x); });
    case Op::rsqrt: return each(count, d, a, [one](V x) { return one / vsqrt(x); });
    case Op::sin: return each(count, d, a, [](V x) { return vsin(x); });
    case Op::cos: return each(count, d, a, [](V x) { return vcos(x); });
    case Op::tanh: return each(count, d, a, [](V x) { return vtanh(x); });
    case Op::sigmoid: return each(count, d, a, [](V x) { return vsigmoid(x); });
    case Op::relu: return each(count, d, a, [](V x) { return vrelu(x); });
    case Op::softplus: return each(count, d, a, [](V x) { return vsoftplus(x); });
    case Op::log_sigmoid: return each(count, d, a, [](V x) { return vlog_sigmoid(x); });
    case Op::pow: return each(count, d, a, b, [](V x, V y) { return vpow(x, y); });
    case Op::remainder: return each(count, d, a, b, [](V x, V y) { return vremainder(x, y); });
    case Op::maximum: return each(count, d, a, b, [](V x, V y) { return vmaximum(x, y); });
    case Op::minimum: return each(count, d, a, b, [](V x, V y) { return vminimum(x, y); });
    case Op::lt: return each(count, d, a, b, [=](V x, V y) { return x < y ? one : zero; });
    case Op::le: return each(count, d, a, b, [=](V x, V y) { return x <= y ? one : zero; });
    case Op::gt: return each(count, d, a, b, [=](V x, V y) { return x > y ? one : zero; });
    case Op::ge: return each(count, d, a, b, [=](V x, V y) { return x >= y ? one : zero; });
    case Op::eq: return each(count, d, a, b, [=](V x, V y) { return x == y ? one : zero; });
    case Op::ne: return each(count, d, a, b, [=](V x, V y) { return x != y ? one : zero; });
    case Op::where:
      for (int i = 0; i < count; i += kLanes<T>) {
        const V x = load(b + i), y = load(c + i);
        store(d + i, load(a + i) != zero ? x : y);
      }
      return;
    case Op::fma:
      for (int i = 0; i < count; i += kLanes<T>) store(d + i, load(a + i) * load(b + i) + load(c + i));
      return;
    case Op::fnma:
      for (int i = 0; i < count; i += kLanes<T>) store(d + i, load(c + i) - load(a + i) * load(b + i));
      return;
    case Op::tanh_slope: return each(count, d, a, b, [one](V x, V y) { return x * (one - y * y); });
    case Op::sigmoid_slope: return each(count, d, a, b, [one](V x, V y) { return x * (y * (one - y)); });
    case Op::copy: std::memmove(d, a, size_t(count) * sizeof(T)); return;
    default: return;
  }
}

// --- a tile of rows ---------------------------------------------------------------------------------------------------

template <typename T>
class Tiles {
 public:
  Tiles(const Job& job, int first, int last, T* sums)
      : job_(job), first_(first), last_(last), most_(std::min(last - first, rows_of_a_tile(job))), pointers_(job.slot_count) {
    size_t total = 0;
    std::vector<size_t> places(job.slot_count);
    for (int s = 0; s < job.slot_count; ++s) {
      places[s] = total;
      const Slot& slot = job.slots[s];
      const size_t count = slot.kind == Kind::number ? size_t(kChunk) : size_t(most_) * slot.width;
      if (slot.kind != Kind::stream && slot.kind != Kind::carry) total += (count + 2 * kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    }
    own_.assign(total + kLanes<T>, T(0));
    for (int s = 0; s < job.slot_count; ++s) {
      T* place = own_.data() + places[s];
      const Slot& slot = job.slots[s];
      pointers_[s] = place;
      if (slot.kind == Kind::number) std::fill_n(place, kChunk + kLanes<T> - 1, T(slot.number));
    }
    read_vectors();
    old_ = pointers_;  // where the old state is put together, if some rows of it are reset
    size_t offset = 0;
    for (int k = 0; k < job.sum_count; ++k) {
      sums_.push_back(sums + offset);
      offset += job.sums[k].width;
    }
    for (int f = 0; f < job.field_count; ++f) held_.emplace_back(size_t(most_) * job.fields[f].width);
  }

  // Vectors are held once for each row of a tile: those of a job that is run again may have moved.
  void read_vectors() {
    for (int s = 0; s < job_.slot_count; ++s) {
      const Slot& slot = job_.slots[s];
      if (slot.kind == Kind::vector)
        for (int m = 0; m < most_; ++m) std::copy_n(array(slot.array), slot.width, pointers_[s] + size_t(m) * slot.width);
    }
  }

  // One of several threads that share out the columns of the same rows, and what all rows of `whole` lie in.
  Tiles(const Tiles& whole, int part, int parts, Barrier& barrier)
      : job_(whole.job_), first_(whole.first_), last_(whole.last_), most_(whole.most_), pointers_(whole.pointers_),
        old_(whole.old_), sums_(whole.sums_), part_(part), parts_(parts), barrier_(&barrier) {}

  // Whether columns can be shared out: nothing that concerns whole rows but products.
  static bool is_shared(const Job& job) {
    if (job.valid || job.resets) return false;
    for (int s = 0; s < job.slot_count; ++s)
      if (job.slots[s].kind != Kind::number && job.slots[s].width < 2 * kPanel<T>) return false;
    for (int k = 0; k < job.matrix_count; ++k)
      if (job.matrices[k].blocks > 1) return false;
    for (int i = 0; i < job.instruction_count; ++i) {
      const Op op = job.instructions[i].op;
      if (op == Op::broadcast || op == Op::row_sum || op == Op::row_dot) return false;
    }
    return true;
  }

  void run() {
    const bool down = job_.from_the_end != job_.backward;
    const int rows = last_ - first_, tiles = (rows + most_ - 1) / most_;  // as even as can be: a tile of one row is dear
    for (int n = 0; n < job_.steps; ++n) {
      const int t = down ? job_.steps - 1 - n : n;
      for (int k = 0, row = first_; k < tiles; ++k) {
        const int next = first_ + rows * (k + 1) / tiles;
        tile(t, row, next - row);
        row = next;
      }
    }
  }

 private:
  const Job& job_;
  const int first_, last_, most_;
  std::vector<T*> pointers_, old_, sums_;
  std::vector<T> own_;
  std::vector<std::vector<T>> held_;
  const int part_ = 0, parts_ = 1;  // of a team
  Barrier* const barrier_ = nullptr;
  const uint8_t* some_taken_ = nullptr;  // by row, where not all rows of the tile take the step

  // What is computed of a tile stays in the first-level cache if it has few rows; but where the matrices are larger than
  // that of the second level, reading them for more rows at once counts for more.
  static int rows_of_a_tile(const Job& job) {
    size_t numbers = 0;
    for (int k = 0; k < job.matrix_count; ++k)
      numbers += size_t(job.matrices[k].operand) * job.matrices[k].width / job.matrices[k].blocks;
    return numbers * sizeof(T) > kLarge ? 4 * kTile : kTile > 6 ? kTile : 2 * kTile;
  }

  T* array(int k) const { return static_cast<T*>(job_.arrays[k].data); }
  T* at(int k, int t, int row) const { return array(k) + t * job_.arrays[k].step + row * job_.arrays[k].row; }
  T* at(const Slot& slot, int t, int row) const { return at(slot.array, t, row) + slot.column; }
  bool is_first(int t) const { return t == (job_.from_the_end ? job_.steps - 1 : 0); }
  bool is_valid(int t, int row) const { return !job_.valid || job_.valid[size_t(t) * job_.rows + row]; }

  // A reset belongs to the step before which the state is set; running from the end, to the step that is left.
  bool is_reset(int t, int row) const {
    if (!job_.resets) return false;
    const int crossed = job_.from_the_end ? t + 1 : t;
    return crossed < job_.steps + job_.more_resets && job_.resets[size_t(crossed) * job_.rows + row];
  }

  const T* before(const Slot& slot, int t, int row) const {
    if (is_first(t)) return array(slot.first) + size_t(row) * slot.width;
    return at(slot.array, job_.from_the_end ? t + 1 : t - 1, row);
  }

  void tile(int t, int row, int rows) {
    int taken = 0, resets = 0;
    for (int m = 0; m < rows; ++m) {
      taken += is_valid(t, row + m);
      resets += is_reset(t, row + m);
    }
    for (int s = 0; s < job_.slot_count; ++s) {
      const Slot& slot = job_.slots[s];
      if (slot.kind == Kind::stream) pointers_[s] = at(slot, t, row);
      if (slot.kind == Kind::carry) pointers_[s] = array(slot.array) + size_t(row) * slot.width;
      if (slot.kind == Kind::old) pointers_[s] = const_cast<T*>(before(slot, t, row));
    }
    some_taken_ = taken < rows ? job_.valid + size_t(t) * job_.rows + row : nullptr;
    if (resets) begin_anew(t, row, rows);
    if (job_.backward) {
      take_what_is_given(t, row, rows);
      if (taken < rows) hold(t, row, rows);
      if (taken) program(rows);
      if (taken < rows) give_back(t, row, rows);
      if (resets) hand_over(t, row, rows);
    } else {
      if (taken) program(rows);
      if (taken < rows) keep(t, row, rows);
    }
  }

  // The old state, with the initial one in the rows that are reset.
  void begin_anew(int t, int row, int rows) {
    for (int f = 0; f < job_.field_count; ++f) {
      const Field& field = job_.fields[f];
      if (field.old_slot < 0) continue;
      const int w = field.width;
      T* place = old_[field.old_slot];
      for (int m = 0; m < rows; ++m) {
        const T* from = is_reset(t, row + m) ? array(field.initial) + size_t(row + m) * w : pointers_[field.old_slot] + size_t(m) * w;
        std::copy_n(from, w, place + size_t(m) * w);
      }
      pointers_[field.old_slot] = place;
    }
  }

  // Forward: rows whose step is not taken keep their state.
  void keep(int t, int row, int rows) {
    for (int f = 0; f < job_.field_count; ++f) {
      const Field& field = job_.fields[f];
      const int w = field.width;
      for (int m = 0; m < rows; ++m)
        if (!is_valid(t, row + m)) std::copy_n(pointers_[field.old_slot] + size_t(m) * w, w, at(field.states, t, row + m));
    }
    clear(t, row, rows);
  }

  void take_what_is_given(int t, int row, int rows) {
    for (int f = 0; f < job_.field_count; ++f) {
      const Field& field = job_.fields[f];
      if (!array(field.given)) continue;
      for (int m = 0; m < rows; ++m) {
        if (job_.tidy && !is_valid(t, row + m)) continue;
        T* carry = array(field.carry) + size_t(row + m) * field.width;
        const T* given = at(field.given, t, row + m);
        const int end = from_column(part_ + 1, field.width);
        for (int i = from_column(part_, field.width); i < end; ++i) carry[i] += given[i];
      }
    }
  }

  // Backward: the gradient of rows whose step is not taken is laid aside, and given back behind the step.
  void hold(int t, int row, int rows) {
    for (int f = 0; f < job_.field_count; ++f) {
      const int w = job_.fields[f].width;
      T* carry = array(job_.fields[f].carry) + size_t(row) * w;
      std::copy_n(carry, size_t(rows) * w, held_[f].data());
      for (int m = 0; m < rows; ++m)
        if (!is_valid(t, row + m)) std::fill_n(carry + size_t(m) * w, w, T(0));
    }
  }

  void give_back(int t, int row, int rows) {
    for (int f = 0; f < job_.field_count; ++f) {
      const int w = job_.fields[f].width;
      T* carry = array(job_.fields[f].carry) + size_t(row) * w;
      for (int m = 0; m < rows; ++m)
        if (!is_valid(t, row + m)) std::copy_n(held_[f].data() + size_t(m) * w, w, carry + size_t(m) * w);
    }
    clear(t, row, rows);
  }

  void clear(int t, int row, int rows) {
    for (const int32_t* s = job_.cleared; *s >= 0; ++s) {
      const Slot& slot = job_.slots[*s];
      for (int m = 0; m < rows; ++m)
        if (!is_valid(t, row + m)) std::fill_n(at(slot, t, row + m), slot.width, T(0));
    }
  }

  // Backward: what went into a state that a reset set is the initial state's.
  void hand_over(int t, int row, int rows) {
    for (int f = 0; f < job_.field_count; ++f) {
      const Field& field = job_.fields[f];
      const int w = field.width;
      for (int m = 0; m < rows; ++m) {
        if (!is_reset(t, row + m)) continue;
        T* carry = array(field.carry) + size_t(row + m) * w;
        T* whole = array(field.of_reset) + size_t(row + m) * w;
        for (int i = 0; i < w; ++i) whole[i] += carry[i];
        std::fill_n(carry, w, T(0));
      }
    }
  }

  void program(int rows) {
    const Instruction* const end = job_.instructions + job_.instruction_count;
    for (const Instruction* i = job_.instructions; i < end;) {
      if (i->op == Op::product && barrier_) {
        i = in_team(i, end, rows);
        continue;
      }
      if (i->op >= Op::broadcast) {
        on_rows(*i++, rows);
        continue;
      }
      const int width = job_.slots[i->d].width;
      const Instruction* stop = i + 1;
      while (stop < end && stop->op < Op::broadcast && job_.slots[stop->d].width == width) ++stop;
      if (parts_ == 1)
        on_numbers(i, stop, 0, rows * width);
      else
        for (int m = 0; m < rows; ++m)
          on_numbers(i, stop, m * width + from_column(part_, width), m * width + from_column(part_ + 1, width));
      i = stop;
    }
  }

  // Products one after another, of which each thread makes some columns, once all have what is multiplied; and nobody
  // goes on to write over that before all are done. Returns the first instruction behind them.
  const Instruction* in_team(const Instruction* i, const Instruction* end, int rows) {
    const Instruction* const begin = i;
    barrier_->wait(parts_);
    for (; i < end && i->op == Op::product; ++i) {
      for (const Instruction* before = begin; before < i; ++before)
        if (before->d == i->a || before->a == i->d) {  // what a thread writes there, all read
          barrier_->wait(parts_);
          break;
        }
      on_rows(*i, rows);
    }
    barrier_->wait(parts_);
    return i;
  }

  // Where a thread's columns begin.
  int from_column(int part, int width) const { return part == parts_ ? width : width * part / parts_ / kPanel<T> * kPanel<T>; }

  // Instructions on each number, one after another over a chunk that stays in the first-level cache.
  void on_numbers(const Instruction* begin, const Instruction* end, int from, int to) {
    for (int start = from; start < to; start += kChunk) {
      const int length = std::min(kChunk, to - start), whole = length / kLanes<T> * kLanes<T>;
      for (const Instruction* i = begin; i < end; ++i) {
        T *d = place(i->d, start), *a = place(i->a, start), *b = place(i->b, start), *c = place(i->c, start);
        if (whole) pointwise(i->op, whole, d, a, b, c);
        if (whole < length) rest(i->op, length - whole, d + whole, shifted(i->a, a, whole), shifted(i->b, b, whole), shifted(i->c, c, whole));
      }
    }
  }

  T* place(int slot, int start) const {
    if (slot < 0) return nullptr;
    return job_.slots[slot].kind == Kind::number ? pointers_[slot] : pointers_[slot] + start;
  }
  const T* shifted(int slot, const T* p, int by) const { return slot < 0 || job_.slots[slot].kind == Kind::number ? p : p + by; }

  // Fewer numbers than a vector holds: through a buffer, since what lies behind them is another row's.
  void rest(Op op, int count, T* d, const T* a, const T* b, const T* c) {
    T buffer[4][kLanes<T>];
    const T* from[3] = {a, b, c};
    for (int k = 0; k < 3; ++k) {
      std::fill_n(buffer[k], kLanes<T>, T(1));
      if (from[k]) std::copy_n(from[k], count, buffer[k]);
    }
    pointwise(op, kLanes<T>, buffer[3], buffer[0], buffer[1], buffer[2]);
    std::copy_n(buffer[3], count, d);
  }

  void on_rows(const Instruction& i, int rows) {
    switch (i.op) {
      case Op::broadcast: {
        const int w = job_.slots[i.d].width;
        for (int m = 0; m < rows; ++m) std::fill_n(pointers_[i.d] + size_t(m) * w, w, pointers_[i.a][m]);
        return;
      }
      case Op::move: {
        const int d = row_of(i.d), a = row_of(i.a);
        const int begin = from_column(part_, job_.slots[i.d].width), end = from_column(part_ + 1, job_.slots[i.d].width);
        for (int m = 0; m < rows; ++m)
          std::copy_n(pointers_[i.a] + size_t(m) * a + begin, end - begin, pointers_[i.d] + size_t(m) * d + begin);
        return;
      }
      case Op::row_sum:
      case Op::row_dot: {
        const int w = job_.slots[i.a].width;
        for (int m = 0; m < rows; ++m) {
          const T* const v = pointers_[i.a] + size_t(m) * w;
          const T sum = i.op == Op::row_sum ? total(v, nullptr, w) : total(v, pointers_[i.b] + size_t(m) * w, w);
          pointers_[i.d][m] = i.aux ? pointers_[i.d][m] + sum : sum;
        }
        return;
      }
      case Op::accumulate: {
        const int w = job_.slots[i.a].width;
        const T* v = pointers_[i.a];
        T* sum = sums_[i.aux];
        if (some_taken_) {  // what rows whose step is not taken hold is of no step: not even zero, where it is not finite
          for (int m = 0; m < rows; ++m)
            if (some_taken_[m])
              for (int k = 0; k < w; ++k) sum[k] += v[size_t(m) * w + k];
          return;
        }
        const int end = from_column(part_ + 1, w);
        int k = from_column(part_, w);
        for (; k + kLanes<T> <= end; k += kLanes<T>) {  // the rows first, so that a long sum is one of short sums
          Vector<T> part = load(v + k);
          for (int m = 1; m < rows; ++m) part += load(v + size_t(m) * w + k);
          store(sum + k, load(sum + k) + part);
        }
        for (; k < end; ++k) {
          T part = v[k];
          for (int m = 1; m < rows; ++m) part += v[size_t(m) * w + k];
          sum[k] += part;
        }
        return;
      }
      default: {
        const Matrix& matrix = job_.matrices[i.aux];
        const int blocks = matrix.blocks, K = matrix.operand / blocks, N = matrix.width / blocks;
        const size_t size = size_t(K) * ((N + kPanel<T> - 1) / kPanel<T> * kPanel<T>);
        const int begin = blocks > 1 ? 0 : from_column(part_, N), count = (blocks > 1 ? N : from_column(part_ + 1, N)) - begin;
        for (int k = 0; k < blocks; ++k)
          product<T>(rows, count, {pointers_[i.a] + k * K, static_cast<const T*>(job_.panels[i.aux]) + k * size + size_t(begin) * K,
                                   size_t(K) * kPanel<T>, pointers_[i.d] + k * N + begin,
                                   i.c < 0 ? nullptr : pointers_[i.c] + k * N + begin, row_of(i.a), row_of(i.d),
                                   i.c < 0 ? 0 : row_of(i.c), K});
      }
    }
  }

  // From one row of a slot to the next.
  int row_of(int s) const {
    const Slot& slot = job_.slots[s];
    return slot.kind == Kind::stream ? int(job_.arrays[slot.array].row) : slot.width;
  }

  // The sum over a row of v, or of v times w, in as many short sums as an addition takes to be ready.
  static T total(const T* v, const T* w, int count) {
    constexpr int kShort = 4;
    Vector<T> parts[kShort] = {};
    int i = 0;
    for (; i + kShort * kLanes<T> <= count; i += kShort * kLanes<T>)
      for (int k = 0; k < kShort; ++k) {
        const Vector<T> a = load(v + i + k * kLanes<T>);
        parts[k] += w ? a * load(w + i + k * kLanes<T>) : a;
      }
    for (; i + kLanes<T> <= count; i += kLanes<T>) parts[0] += w ? load(v + i) * load(w + i) : load(v + i);
    const Vector<T> part = (parts[0] + parts[1]) + (parts[2] + parts[3]);
    T sum = T(0);
    for (int k = 0; k < kLanes<T>; ++k) sum += part[k];
    for (; i < count; ++i) sum += w ? v[i] * w[i] : v[i];
    return sum;
  }
};

template <typename T>
void run(const Job& job, int32_t first, int32_t last, void* sums) {
  Tiles<T>(job, first, last, static_cast<T*>(sums)).run();
}

template <typename T>
void* open(const Job& job, void* sums) {
  return new Tiles<T>(job, 0, job.rows, static_cast<T*>(sums));
}
template <typename T>
void run_opened(void* opened) {
  static_cast<Tiles<T>*>(opened)->run();
}
template <typename T>
void read_vectors(void* opened) {
  static_cast<Tiles<T>*>(opened)->read_vectors();
}
template <typename T>
bool is_shared(const Job& job) {
  return Tiles<T>::is_shared(job);
}
template <typename T>
void run_in_team(void* opened, int32_t part, int32_t parts, Barrier& barrier) {
  Tiles<T>(*static_cast<const Tiles<T>*>(opened), part, parts, barrier).run();
}
template <typename T>
void close(void* opened) {
  delete static_cast<Tiles<T>*>(opened);
}
template <typename T>
void multiply_rows(int32_t rows, const void* A, int32_t a_stride, const void* panels, int32_t operand, int32_t width, void* C,
                   int32_t c_stride, const void* added, int32_t added_stride) {
  product<T>(rows, width, {static_cast<const T*>(A), static_cast<const T*>(panels), size_t(operand) * kPanel<T>,
                           static_cast<T*>(C), static_cast<const T*>(added), a_stride, c_stride, added_stride, operand});
}
template <typename T>
constexpr Stepping stepping{open<T>, read_vectors<T>, run_opened<T>, is_shared<T>, run_in_team<T>, close<T>, multiply_rows<T>};

extern const Carrying carrying_f32, carrying_f64;
extern const Kernels kernels;
const Kernels kernels{RECURRA_TEXT(RECURRA_ISA), kPanel<float>, kPanel<double>, run<float>, run<double>, pack<float>, pack<double>,
                      outer_part<float>, outer_part<double>,
                      stepping<float>, stepping<double>, &carrying_f32, &carrying_f64};

}  // namespace RECURRA_ISA
}  // namespace recurra
