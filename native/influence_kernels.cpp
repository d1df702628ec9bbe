// Influences for one instruction set; compiled with other flags for each (see influence.hpp).
#include <algorithm>
#include <cstring>

#include "influence.hpp"
#include "vectors.hpp"

namespace recurra {
namespace RECURRA_ISA {
namespace {

constexpr int kWide = 4;  // vectors in a row of a tile
template <typename T>
constexpr int kColumns = kWide * kLanes<T>;
constexpr int kHigh = RECURRA_VECTOR_BYTES == 64 ? 6 : 2;  // rows of a tile, whose sums fill the registers

template <typename T>
inline T at(const Place& place, int32_t coefficient, int32_t number) {
  const Coefficient& c = place.plan->coefficients[coefficient];
  return static_cast<const T*>(place.coefficients[coefficient])[c.along ? number : 0];
}

template <typename T>
inline T sum(Vector<T> v) {
  T numbers[kLanes<T>];
  store(numbers, v);
  for (int half = kLanes<T> / 2; half; half /= 2)  // by halves, so that no addition waits for all others
    for (int k = 0; k < half; ++k) numbers[k] += numbers[k + half];
  return numbers[0];
}

// Adds M rows of a matrix times a vector to as many sums.
template <typename T, int M>
inline void dots(const T* rows, const T* v, int count, Vector<T> (&sums)[M]) {
  int k = 0;
  for (; k + kLanes<T> <= count; k += kLanes<T>) {
    const Vector<T> part = load(v + k);
    for (int m = 0; m < M; ++m) sums[m] += load(rows + size_t(m) * count + k) * part;
  }
  if (k == count) return;
  const Vector<T> part = load_some(v + k, count - k);
  for (int m = 0; m < M; ++m) sums[m] += load_some(rows + size_t(m) * count + k, count - k) * part;
}

// to = (adds ? to : 0) + factor * from
template <typename T>
inline void scaled(int count, T factor, const T* from, T* to, bool adds) {
  const Vector<T> f = spread(factor);
  int k = 0;
  for (; k + kLanes<T> <= count; k += kLanes<T>) {
    const Vector<T> v = f * load(from + k);
    store(to + k, adds ? load(to + k) + v : v);
  }
  if (k < count) {
    const Vector<T> v = f * load_some(from + k, count - k);
    store_some(to + k, adds ? load_some(to + k, count - k) + v : v, count - k);
  }
}

// M net inputs from row j on.
template <typename T, int M>
inline void nets(const Plan::Net& n, int j, int32_t input, int32_t output, const T* x, const T* h, T* z) {
  Vector<T> sums[M] = {};
  if (n.W) dots<T, M>(static_cast<const T*>(n.W) + size_t(j) * input, x, input, sums);
  if (n.U) dots<T, M>(static_cast<const T*>(n.U) + size_t(j) * output, h, output, sums);
  for (int m = 0; m < M; ++m) {
    T total = sum<T>(sums[m]);
    for (const void* bias : n.biases)
      if (bias) total += static_cast<const T*>(bias)[j + m];
    z[n.first + j + m] = total;
  }
}

template <typename T>
void net(const Plan::Net& n, int32_t begin, int32_t end, int32_t input, int32_t output, const void* x, const void* h, void* z) {
  const T *const from = static_cast<const T*>(x), *const state = static_cast<const T*>(h);
  int j = begin;
  for (; j + 8 <= end; j += 8) nets<T, 8>(n, j, input, output, from, state, static_cast<T*>(z));
  for (; j < end; ++j) nets<T, 1>(n, j, input, output, from, state, static_cast<T*>(z));
}

template <typename T>
void make(const Place& p, const Making& m) {
  const auto square = [&](int32_t k) { return static_cast<T*>(p.squares[k]); };
  const auto size = [&](int32_t k) -> const Square& { return p.plan->squares[k]; };
  switch (m.make) {
    case Make::row:
    case Make::column: {
      const int count = size(m.d).rows * size(m.d).columns;
      for (int j = 0; j < count; ++j) square(m.d)[j] = at<T>(p, m.a, j);
      return;
    }
    case Make::rows:
    case Make::copy: {
      const Square &d = size(m.d), &b = size(m.b);
      for (int i = 0; i < d.rows; ++i)
        scaled<T>(d.columns, m.make == Make::rows ? at<T>(p, m.a, i) : T(1), square(m.b) + size_t(i) * b.stride,
                  square(m.d) + size_t(i) * d.stride, m.adds);
      return;
    }
    case Make::columns: {
      const Square &d = size(m.d), &b = size(m.b);
      for (int i = 0; i < d.rows; ++i) {
        const T* const from = square(m.b) + size_t(i) * b.stride;
        T* const to = square(m.d) + size_t(i) * d.stride;
        for (int k = 0; k < d.columns; ++k) to[k] = from[k] * at<T>(p, m.a, k) + (m.adds ? to[k] : T(0));
      }
      return;
    }
    case Make::product: {
      const Square &d = size(m.d), &a = size(m.a), &b = size(m.b);
      for (int i = 0; i < d.rows; ++i) {
        T* const to = square(m.d) + size_t(i) * d.stride;
        const T* const from = square(m.a) + size_t(i) * a.stride;
        for (int k = 0; k < a.columns; ++k)
          scaled<T>(d.columns, from[k], square(m.b) + size_t(k) * b.stride, to, m.adds || k);
      }
      return;
    }
    case Make::numbers: {
      T* const to = static_cast<T*>(p.vectors[m.d]);
      const int count = p.plan->vectors[m.d];
      if (p.plan->coefficients[m.a].along)
        scaled<T>(count, T(1), static_cast<const T*>(p.coefficients[m.a]), to, m.adds);
      else
        for (int j = 0; j < count; ++j) to[j] = at<T>(p, m.a, 0) + (m.adds ? to[j] : T(0));
      return;
    }
    case Make::diagonal: {
      T* const to = static_cast<T*>(p.vectors[m.d]);
      const T* const from = square(m.b);
      const size_t next = size(m.b).stride + 1;
      const int count = p.plan->vectors[m.d];
      const T one = 1;
      const auto factors = [&](int32_t c, size_t& along) {
        along = c >= 0 ? p.plan->coefficients[c].along : 0;
        return c >= 0 ? static_cast<const T*>(p.coefficients[c]) : &one;
      };
      size_t along_a, along_b;
      const T *const a = factors(m.a, along_a), *const b = factors(m.aux, along_b);
      for (int j = 0; j < count; ++j) {
        const T v = from[j * next] * a[j * along_a] * b[j * along_b];
        to[j] = m.adds ? to[j] + v : v;
      }
      return;
    }
    case Make::dot: {
      T* const to = static_cast<T*>(p.vectors[m.d]);
      const Square &a = size(m.a), &b = size(m.b);
      for (int j = 0; j < p.plan->vectors[m.d]; ++j) {
        T v = 0;
        for (int k = 0; k < a.columns; ++k) v += square(m.a)[size_t(j) * a.stride + k] * square(m.b)[size_t(k) * b.stride + j];
        if (m.aux >= 0) v *= at<T>(p, m.aux, j);
        to[j] = m.adds ? to[j] + v : v;
      }
      return;
    }
  }
}

template <typename T>
void bring(const Place& p, const Inputs& inputs, const void* x, void* to) {
  for (const Inputs::Piece& piece : inputs.pieces)
    for (int u = 0; u < inputs.units; ++u) {
      T* const out = static_cast<T*>(to) + size_t(u) * inputs.columns + piece.column;
      const int first = piece.share ? u / piece.share * piece.count : 0;
      if (piece.coefficient == -1)
        std::memcpy(out, x, piece.count * sizeof(T));
      else if (piece.coefficient >= 0 && p.plan->coefficients[piece.coefficient].along)
        std::memcpy(out, static_cast<const T*>(p.coefficients[piece.coefficient]) + first, piece.count * sizeof(T));
      else
        for (int k = 0; k < piece.count; ++k) out[k] = piece.coefficient == -2 ? T(1) : at<T>(p, piece.coefficient, first + k);
    }
}

// The numbers of singles, in their order.
template <typename T>
void gather(const Place& p, const std::vector<Single>& singles, void* to) {
  T* const out = static_cast<T*>(to);
  for (size_t k = 0; k < singles.size(); ++k) out[k] = at<T>(p, singles[k].coefficient, singles[k].number);
}

// Where a row of a matrix lies whose rows are `from` of another's, or all of them in order.
inline size_t row_of(const int32_t* from, int k) { return from ? size_t(from[k]) : size_t(k); }

// M rows of A times `count` rows of B, W vectors of columns from `column` on; A's numbers lie `down` and `along` apart.
template <typename T, int M, int W>
inline void tile(int count, const T* A, size_t down, size_t along, const T* B, size_t stride, const int32_t* from, T* C, size_t apart) {
  Vector<T> sums[M][W] = {};
  for (int k = 0; k < count; ++k) {
    const T* const b = B + row_of(from, k) * stride;
    Vector<T> v[W];
    for (int w = 0; w < W; ++w) v[w] = load(b + w * kLanes<T>);
    for (int m = 0; m < M; ++m) {
      const Vector<T> a = spread(A[m * down + k * along]);
      for (int w = 0; w < W; ++w) sums[m][w] += a * v[w];
    }
  }
  for (int m = 0; m < M; ++m)
    for (int w = 0; w < W; ++w) store(C + m * apart + w * kLanes<T>, sums[m][w]);
}

// C = A B for all rows of A and W vectors of columns.
template <typename T, int W>
inline void columns_of(int rows, int count, const T* A, size_t down, size_t along, const T* B, size_t stride, const int32_t* from, T* C,
                       size_t apart) {
  int row = 0;
  for (; row + kHigh <= rows; row += kHigh)
    tile<T, kHigh, W>(count, A + row * down, down, along, B, stride, from, C + row * apart, apart);
  for (; row + 2 <= rows; row += 2) tile<T, 2, W>(count, A + row * down, down, along, B, stride, from, C + row * apart, apart);
  for (; row < rows; ++row) tile<T, 1, W>(count, A + row * down, down, along, B, stride, from, C + row * apart, apart);
}

// With J_s = D_s J_(s-1) + E_s v_s and M_s = D_n ... D_(s+1): the transposed M_s of every step s, and M_0; likewise
// lambda_s = delta_s + D_(s+1)' lambda_(s+1), of which each is a row more that the transposed D is multiplied with.
template <typename T>
void multiply(const Group& g, const Past& past, const Products& products) {
  const int rows = g.rows, count = int(g.from.size());
  const size_t stride = products.stride;
  T *const each = static_cast<T*>(products.each), *const errors = static_cast<T*>(products.errors);
  T* const whole = static_cast<T*>(products.whole);
  const T* const delta = static_cast<const T*>(past.delta);
  const size_t size = size_t(rows) * stride;
  // Of the last step the product is the identity, behind which `each` has room for one more: M_0.
  T* const first = each + size_t(kPast) * size;
  T* const last = each + size_t(past.steps - 1) * size;
  std::memset(last, 0, size * sizeof(T));
  for (int r = 0; r < rows; ++r) last[size_t(r) * stride + r] = T(1);
  std::memcpy(errors + size_t(past.steps - 1) * rows, delta + size_t(past.steps - 1) * rows, rows * sizeof(T));
  for (int s = past.steps - 1; s >= 0; --s) {
    const T* const A = static_cast<const T*>(past.D) + size_t(s) * rows * count;
    const T* const numbers = static_cast<const T*>(past.between) + size_t(s) * g.singles.size();
    const T* const behind = each + size_t(s) * size;
    const T* const error = errors + size_t(s) * rows;
    T* const to = s ? each + size_t(s - 1) * size : first;
    T* const back = s ? errors + size_t(s - 1) * rows : whole + size_t(rows) * rows;
    // Rows of `from` of the new are those of A transposed times the old; each is written where it belongs.
    T* const packed = first + size;  // (from, stride)
    for (size_t c = 0; c < stride; c += kColumns<T>) {
      if (c + kColumns<T> <= stride)
        columns_of<T, kWide>(count, rows, A, 1, count, behind + c, stride, nullptr, packed + c, stride);
      else
        for (size_t d = c; d < stride; d += kLanes<T>)
          columns_of<T, 1>(count, rows, A, 1, count, behind + d, stride, nullptr, packed + d, stride);
    }
    std::memset(to, 0, size * sizeof(T));
    for (int k = 0; k < count; ++k) std::memcpy(to + size_t(g.from[k]) * stride, packed + size_t(k) * stride, stride * sizeof(T));
    for (int r = 0; r < rows; ++r) back[r] = s ? delta[size_t(s - 1) * rows + r] : T(0);
    for (int k = 0; k < count; ++k) {
      T total = 0;
      for (int r = 0; r < rows; ++r) total += A[size_t(r) * count + k] * error[r];
      back[g.from[k]] += total;
    }
    for (size_t k = 0; k < g.singles.size(); ++k) {
      const Single& one = g.singles[k];
      scaled<T>(int(stride), numbers[k], behind + size_t(one.row) * stride, to + size_t(one.from) * stride, true);
      back[one.from] += numbers[k] * error[one.row];
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < rows; ++c) whole[size_t(r) * rows + c] = first[size_t(c) * stride + r];
}

// What a unit's parameters do at each step, as it is after all of them: (rows + 1, kPast), the last row to the losses.
// `room` is for (kPast, stride).
template <typename T>
void at_once(const Group& g, int n, int unit, const Past& past, const Products& products, T* C, T* room) {
  const Member& m = g.members[n];
  const int rows = g.rows, stride = products.stride;
  for (int s = 0; s < past.steps; ++s) {
    const T* const M = static_cast<const T*>(products.each) + size_t(s) * rows * stride;
    const T* const error = static_cast<const T*>(products.errors) + size_t(s) * rows;
    T* const to = room + size_t(s) * stride;
    T told = 0;
    bool adds = false;
    const auto add = [&](int row, T number) {
      if (number == T(0)) return;
      scaled<T>(stride, number, M + size_t(row) * stride, to, adds);
      told += number * error[row];
      adds = true;
    };
    const T* const numbers = static_cast<const T*>(past.at_once[n]) + size_t(s) * m.singles.size();
    for (size_t k = 0; k < m.singles.size(); ++k)
      if (m.singles[k].from == unit) add(m.singles[k].row, numbers[k]);
    if (!m.copied.empty()) {
      const T* const E = static_cast<const T*>(past.E[n]) + size_t(s) * rows * m.units;
      for (int row = 0; row < rows; ++row) add(row, E[size_t(row) * m.units + unit]);
    }
    for (int i = 0; i < rows; ++i) C[i * kPast + s] = adds ? to[i] : T(0);
    C[rows * kPast + s] = told;
  }
}

// The numbers of inputs of a member's unit at a step.
template <typename T>
inline const T* given(const Place& p, const Group& g, int n, int unit, const Past& past, int s) {
  const Inputs& inputs = p.plan->inputs[g.members[n].site];
  return static_cast<const T*>(past.inputs[n]) +
         (size_t(s) * inputs.units + (inputs.units > 1 ? g.members[n].numbers[unit] : 0)) * inputs.columns;
}

// Rows of C, a vector of columns or some of one, plus M of their factors with as many steps' inputs.
template <typename T, int M>
inline void add_inputs(const T* factors, int steps, const T* const* v, int first, int count, T* C) {
  const bool is_whole = count >= kLanes<T>;
  Vector<T> sums[M];
  for (int m = 0; m < M; ++m) sums[m] = is_whole ? load(C + m * kColumns<T>) : load_some(C + m * kColumns<T>, count);
  for (int s = 0; s < steps; ++s) {
    const Vector<T> part = is_whole ? load(v[s] + first) : load_some(v[s] + first, count);
    for (int m = 0; m < M; ++m) sums[m] += spread(factors[m * kPast + s]) * part;
  }
  for (int m = 0; m < M; ++m) is_whole ? store(C + m * kColumns<T>, sums[m]) : store_some(C + m * kColumns<T>, sums[m], count);
}

// Adds rows of J times their factors to sums.
template <typename T>
inline void collect_rows(int rows, const T* factors, const int32_t* at, const T* J, size_t stride, int begin, int end, T* sums) {
  constexpr int kStrip = 8 * kLanes<T>;  // columns whose sums stay in registers while all rows are added
  for (int column = begin; column < end; column += kStrip) {
    Vector<T> total[8];
    const int vectors = std::min(8, (end - column) / kLanes<T>);
    for (int v = 0; v < vectors; ++v) total[v] = load(sums + column + v * kLanes<T>);
    for (int row = 0; row < rows; ++row) {
      const T number = factors[row_of(at, row)];
      if (number == T(0)) continue;
      const Vector<T> factor = spread(number);
      for (int v = 0; v < vectors; ++v) total[v] += factor * load(J + size_t(row) * stride + column + v * kLanes<T>);
    }
    for (int v = 0; v < vectors; ++v) store(sums + column + v * kLanes<T>, total[v]);
  }
}

// The rows of a group that mix, over a single step: J = D J + E v.
template <typename T>
void settle_step(const Place& p, const Group& g, const Past& past, T* J, size_t stride, int begin, int end, T* sums, T* scratch) {
  const int rows = g.rows, count = int(g.from.size());
  const T *const A = static_cast<const T*>(past.D), *const between = static_cast<const T*>(past.between);
  for (int column = begin; column < end; column += kColumns<T>) {
    columns_of<T, kWide>(rows, count, A, count, 1, J + column, stride, g.from.data(), scratch, kColumns<T>);
    for (size_t k = 0; k < g.singles.size(); ++k)
      scaled<T>(kColumns<T>, between[k], J + size_t(g.singles[k].from) * stride + column,
                scratch + size_t(g.singles[k].row) * kColumns<T>, true);
    for (int row = 0; row < rows; ++row)
      std::memcpy(J + size_t(row) * stride + column, scratch + size_t(row) * kColumns<T>, kColumns<T> * sizeof(T));
  }
  for (int n = 0; n < int(g.members.size()); ++n) {  // what the parameters do at once
    const Member& m = g.members[n];
    const auto add = [&](int row, int unit, T factor) {
      const int column = m.first + unit * m.columns;  // of a unit's columns, those that are asked for
      const int first = std::max(begin - column, 0), last = std::min(end - column, m.columns);
      if (first < last) scaled<T>(last - first, factor, given<T>(p, g, n, unit, past, 0) + first, J + size_t(row) * stride + column + first, true);
    };
    const int first_unit = std::max(0, (begin - m.first) / m.columns), last_unit = std::min(m.units, (end - m.first) / m.columns + 1);
    for (size_t k = 0; k < m.singles.size(); ++k)
      if (m.singles[k].from >= first_unit && m.singles[k].from < last_unit)
        add(m.singles[k].row, m.singles[k].from, static_cast<const T*>(past.at_once[n])[k]);
    if (!m.copied.empty())
      for (int row = 0; row < rows; ++row)
        for (int unit = first_unit; unit < last_unit; ++unit)
          add(row, unit, static_cast<const T*>(past.E[n])[size_t(row) * m.units + unit]);
  }
  if (past.told) collect_rows<T>(rows, static_cast<const T*>(past.delta), nullptr, J, stride, begin, end, sums);
}

// The same over several: J_n = M_0 J_0 + sum of M_s E_s v_s, and the sum of delta_s J_s alike with lambda in the place of M
// (so Schmidhuber 1992 has it: backward in time over these steps, forward over all others).
template <typename T>
void settle_steps(const Place& p, const Group& g, const Past& past, const Products& products, T* J, size_t stride, int begin,
                  int end, T* sums, T* scratch) {
  const int rows = g.rows, all = rows + past.told;
  T* const C = scratch + size_t(rows + 1) * kColumns<T>;
  T* const room = C + size_t(rows + 1) * kPast;
  int of_member = -1, of_unit = -1;  // whose factors C has: a unit's columns may go over several tiles
  for (int column = begin; column < end; column += kColumns<T>) {
    columns_of<T, kWide>(all, rows, static_cast<const T*>(products.whole), rows, 1, J + column, stride, nullptr, scratch,
                                kColumns<T>);
    for (int n = 0; n < int(g.members.size()); ++n) {
      const Member& m = g.members[n];
      const int last_unit = std::min(m.units, (column + kColumns<T> - m.first + m.columns - 1) / m.columns);
      for (int unit = std::max(0, (column - m.first) / m.columns); unit < last_unit; ++unit) {
        const int place = m.first + unit * m.columns;  // of a unit's columns, those that are in the tile
        const int first = std::max(column - place, 0), last = std::min(column + kColumns<T> - place, m.columns);
        if (first >= last) continue;
        if (n != of_member || unit != of_unit) at_once<T>(g, n, unit, past, products, C, room);
        of_member = n, of_unit = unit;
        const T* v[kPast];
        for (int s = 0; s < past.steps; ++s) v[s] = given<T>(p, g, n, unit, past, s);
        for (int c = first; c < last; c += kLanes<T>) {
          T* const to = scratch + place + c - column;
          int row = 0;
          for (; row + 4 <= all; row += 4)
            add_inputs<T, 4>(C + row * kPast, past.steps, v, c, last - c, to + size_t(row) * kColumns<T>);
          for (; row < all; ++row) add_inputs<T, 1>(C + row * kPast, past.steps, v, c, last - c, to + size_t(row) * kColumns<T>);
        }
      }
    }
    for (int row = 0; row < rows; ++row)
      std::memcpy(J + size_t(row) * stride + column, scratch + size_t(row) * kColumns<T>, kColumns<T> * sizeof(T));
    if (past.told) scaled<T>(kColumns<T>, T(1), scratch + size_t(rows) * kColumns<T>, sums + column, true);
  }
}

// Adds M of P rows' old numbers and those of `steps` inputs to M * W vectors of columns: to[m] = sum over k of first[m][k]
// from[k], and of factors[s][m] v[s].
template <typename T, int P, int W, bool Told>
inline void settled(const T* M, const T* lambda, int steps, const T* factors, const T* const* v, T* columns, size_t stride,
                    T* sums, int c) {
  constexpr int kLanesOf = kLanes<T>, kUnit = kLanes<T>;  // factors of a unit lie a vector apart, as they were made
  Vector<T> now[P][W], total[W];
  for (int w = 0; w < W; ++w) {
    Vector<T> old[P];
    for (int k = 0; k < P; ++k) old[k] = load(columns + k * stride + c + w * kLanesOf);
    for (int i = 0; i < P; ++i) {
      now[i][w] = spread(M[i * P * kUnit]) * old[0];
      for (int k = 1; k < P; ++k) now[i][w] += spread(M[(i * P + k) * kUnit]) * old[k];
    }
    if (Told) {
      total[w] = load(sums + c + w * kLanesOf);
      for (int k = 0; k < P; ++k) total[w] += spread(lambda[k * kUnit]) * old[k];
    }
  }
  for (int s = 0; s < steps; ++s) {
    const T* const f = factors + size_t(s) * (P + 1) * kUnit;
    for (int w = 0; w < W; ++w) {
      const Vector<T> given = load(v[s] + c + w * kLanesOf);
      for (int i = 0; i < P; ++i) now[i][w] += spread(f[i * kUnit]) * given;
      if (Told) total[w] += spread(f[P * kUnit]) * given;
    }
  }
  for (int w = 0; w < W; ++w) {
    for (int i = 0; i < P; ++i) store(columns + i * stride + c + w * kLanesOf, now[i][w]);
    if (Told) store(sums + c + w * kLanesOf, total[w]);
  }
}

// Parameters that reach their own unit alone, in P parts of the state, over several steps: M_s and lambda_s are as above,
// numbers for each unit, and made for as many of these at a time as a vector has.
template <typename T, int P, bool Told>
void settle_own(const Place& p, const Group& g, const Past& past, T* J, size_t stride, int begin, int end, T* sums, T* factors) {
  constexpr int kTogether = kLanes<T>;
  const int width = past.width;
  const T *const D = static_cast<const T*>(past.D), *const delta = static_cast<const T*>(past.delta);
  for (int n = 0; n < int(g.members.size()); ++n) {
    const Member& m = g.members[n];
    const T* const E = static_cast<const T*>(past.E[n]);
    const int first_unit = std::max(0, (begin - m.first) / m.columns);
    const int last_unit = std::min(m.units, (end - m.first + m.columns - 1) / m.columns);
    if (first_unit >= last_unit) continue;
    for (int block = first_unit / kTogether * kTogether; block < last_unit; block += kTogether) {
      Vector<T> M[P][P] = {}, lambda[P] = {};
      for (int i = 0; i < P; ++i) M[i][i] = spread(T(1));
      for (int s = past.steps - 1; s >= 0; --s) {
        const T* const d = D + size_t(s) * P * P * width + block;
        const T* const e = E + size_t(s) * P * width + block;
        T* const to = factors + size_t(s) * (P + 1) * kTogether;
        if (Told) {
          Vector<T> at_once = {};
          for (int k = 0; k < P; ++k) {
            lambda[k] += load(delta + (size_t(s) * P + k) * width + block);
            at_once += lambda[k] * load(e + k * width);
          }
          store(to + P * kTogether, at_once);
        }
        Vector<T> between[P][P], next[P][P], before[P];
        for (int i = 0; i < P; ++i)
          for (int k = 0; k < P; ++k) between[i][k] = load(d + (i * P + k) * width);
        for (int i = 0; i < P; ++i) {
          Vector<T> now = M[i][0] * load(e);
          for (int k = 1; k < P; ++k) now += M[i][k] * load(e + k * width);
          store(to + i * kTogether, now);
          for (int j = 0; j < P; ++j) {
            next[i][j] = M[i][0] * between[0][j];
            for (int k = 1; k < P; ++k) next[i][j] += M[i][k] * between[k][j];
          }
          before[i] = lambda[0] * between[0][i];
          for (int k = 1; k < P; ++k) before[i] += lambda[k] * between[k][i];
        }
        for (int i = 0; i < P; ++i) {
          lambda[i] = before[i];
          for (int j = 0; j < P; ++j) M[i][j] = next[i][j];
        }
      }
      T first[P * P * kTogether], back[P * kTogether];
      for (int i = 0; i < P; ++i) {
        store(back + i * kTogether, lambda[i]);
        for (int k = 0; k < P; ++k) store(first + (i * P + k) * kTogether, M[i][k]);
      }
      for (int u = std::max(block, first_unit); u < std::min(block + kTogether, last_unit); ++u) {
        const int lane = u - block;
        const size_t column = m.first + size_t(u) * m.columns;
        const T* v[kPast];
        for (int s = 0; s < past.steps; ++s) v[s] = given<T>(p, g, n, u, past, s);
        int c = 0;
        for (; c + 4 * kLanes<T> <= m.columns; c += 4 * kLanes<T>)
          settled<T, P, 4, Told>(first + lane, back + lane, past.steps, factors + lane, v, J + column, stride, sums + column, c);
        for (; c < m.columns; c += kLanes<T>)
          settled<T, P, 1, Told>(first + lane, back + lane, past.steps, factors + lane, v, J + column, stride, sums + column, c);
      }
    }
  }
}

template <typename T, int P>
void settle_own(const Place& p, const Group& g, const Past& past, T* J, size_t stride, int begin, int end, T* sums, T* factors) {
  (past.told ? settle_own<T, P, true> : settle_own<T, P, false>)(p, g, past, J, stride, begin, end, sums, factors);
}

template <typename T>
void settle(const Place& p, const Group& g, const Past& past, const Products& products, void* J, int64_t stride, int32_t begin,
            int32_t end, void* sums, void* scratch) {
  T *const j = static_cast<T*>(J), *const to = static_cast<T*>(sums), *const room = static_cast<T*>(scratch);
  if (!g.own && past.steps == 1) return settle_step<T>(p, g, past, j, stride, begin, end, to, room);
  if (!g.own) return settle_steps<T>(p, g, past, products, j, stride, begin, end, to, room);
  switch (g.rows) {
    case 1: return settle_own<T, 1>(p, g, past, j, stride, begin, end, to, room);
    case 2: return settle_own<T, 2>(p, g, past, j, stride, begin, end, to, room);
    case 3: return settle_own<T, 3>(p, g, past, j, stride, begin, end, to, room);
    case 4: return settle_own<T, 4>(p, g, past, j, stride, begin, end, to, room);
  }
}

template <typename T>
void collect(const Group& g, const void* delta, const void* J, int64_t stride, int32_t begin, int32_t end, void* sums) {
  const T* const d = static_cast<const T*>(delta);
  const T* const j = static_cast<const T*>(J);
  T* const to = static_cast<T*>(sums);
  if (g.own) {
    for (const Member& m : g.members)
      for (int u = std::max(0, (begin - m.first) / m.columns); u < std::min(m.units, (end - m.first + m.columns - 1) / m.columns); ++u)
        for (int row = 0; row < g.rows; ++row) {
          const T factor = d[g.numbers[row] + u];
          const size_t column = m.first + size_t(u) * m.columns;
          if (factor != T(0)) scaled<T>(m.columns, factor, j + size_t(row) * stride + column, to + column, true);
        }
    return;
  }
  collect_rows<T>(g.rows, d, g.numbers.data(), j, stride, begin, end, to);
}

template <typename T>
void add(int32_t count, const void* from, void* to) {
  scaled<T>(count, T(1), static_cast<const T*>(from), static_cast<T*>(to), true);
}

template <typename T>
void back(const Place& p, const Group& g, const Member& m, const void* E, const void* W, int32_t input, const void* delta,
          void* below) {
  const T* const d = static_cast<const T*>(delta);
  const auto add = [&](int unit, T error) {
    if (error != T(0))
      scaled<T>(input, error, static_cast<const T*>(W) + size_t(m.numbers[unit]) * input, static_cast<T*>(below), true);
  };
  for (const Single& s : m.singles) add(s.from, at<T>(p, s.coefficient, s.number) * d[g.numbers[s.row]]);
  for (int unit = 0; unit < m.units; ++unit) {
    T error = 0;
    for (int row = 0; row < g.rows; ++row) {
      if (g.own && m.vectors[row] >= 0) error += static_cast<const T*>(p.vectors[m.vectors[row]])[unit] * d[g.numbers[row] + unit];
      if (!m.copied.empty()) error += static_cast<const T*>(E)[size_t(row) * m.units + unit] * d[g.numbers[row]];
    }
    add(unit, error);
  }
}

template <typename T>
void give(const Giving& v, const Member& m, const void* sums, void* gradient) {
  const T* const from = static_cast<const T*>(sums) + m.first + v.column;
  T* const to = static_cast<T*>(gradient) + v.first;
  for (int unit = 0; unit < m.units; ++unit)
    scaled<T>(v.columns, T(1), from + size_t(unit) * m.columns, to + m.numbers[unit] * v.stride, true);
}

template <typename T>
constexpr Carrying carrying{net<T>, make<T>, bring<T>, gather<T>, multiply<T>, settle<T>, collect<T>, add<T>, back<T>, give<T>};

}  // namespace

extern const Carrying carrying_f32, carrying_f64;
const Carrying carrying_f32 = carrying<float>, carrying_f64 = carrying<double>;

}  // namespace RECURRA_ISA
}  // namespace recurra
