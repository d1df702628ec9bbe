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

// M rows of the new J over N vectors of columns from `column` on, to scratch, (rows, kColumns).
template <typename T, int M, int N>
inline void tile(const Group& g, const T* A, const T* J, size_t stride, int row, int column, T* scratch) {
  const int count = int(g.from.size());
  Vector<T> sums[M][N] = {};
  for (int k = 0; k < count; ++k) {
    const T* const from = J + size_t(g.from[k]) * stride + column;
    Vector<T> v[N];
    for (int n = 0; n < N; ++n) v[n] = load(from + n * kLanes<T>);
    for (int m = 0; m < M; ++m) {
      const Vector<T> a = spread(A[size_t(row + m) * count + k]);
      for (int n = 0; n < N; ++n) sums[m][n] += a * v[n];
    }
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) store(scratch + size_t(row + m) * kColumns<T> + n * kLanes<T>, sums[m][n]);
}

template <typename T, int M>
inline void tiles(const Group& g, const T* A, const T* J, size_t stride, int& row, int column, T* scratch) {
  for (; row + M <= g.rows; row += M) tile<T, M, kWide>(g, A, J, stride, row, column, scratch);
}

template <typename T>
void carry_whole(const Place& p, const Group& g, const T* A, const T* const* E, T* J, size_t stride, int begin, int end,
                 T* scratch) {
  for (int column = begin; column < end; column += kColumns<T>) {
    int row = 0;
    tiles<T, kHigh>(g, A, J, stride, row, column, scratch);
    tiles<T, 2>(g, A, J, stride, row, column, scratch);
    tiles<T, 1>(g, A, J, stride, row, column, scratch);
    for (const Single& s : g.singles)
      scaled<T>(kColumns<T>, at<T>(p, s.coefficient, s.number), J + size_t(s.from) * stride + column,
                scratch + size_t(s.row) * kColumns<T>, true);
    for (row = 0; row < g.rows; ++row)
      std::memcpy(J + size_t(row) * stride + column, scratch + size_t(row) * kColumns<T>, kColumns<T> * sizeof(T));
  }
  for (size_t n = 0; n < g.members.size(); ++n) {  // what the parameters do at once
    const Member& m = g.members[n];
    const Inputs& inputs = p.plan->inputs[m.site];
    const auto within = [&](int unit, int& first, int& last) {  // of a unit's columns, those that are asked for
      const int column = m.first + unit * m.columns;
      first = std::max(begin - column, 0);
      last = std::min(end - column, m.columns);
      return first < last;
    };
    const auto add = [&](int row, int unit, T factor) {
      int first, last;
      if (!within(unit, first, last)) return;
      const T* const v = static_cast<const T*>(p.inputs[m.site]) + (inputs.units > 1 ? size_t(m.numbers[unit]) * inputs.columns : 0);
      scaled<T>(last - first, factor, v + first, J + size_t(row) * stride + m.first + unit * m.columns + first, true);
    };
    const int first_unit = std::max(0, (begin - m.first) / m.columns), last_unit = std::min(m.units, (end - m.first) / m.columns + 1);
    for (const Single& s : m.singles)
      if (s.from >= first_unit && s.from < last_unit) add(s.row, s.from, at<T>(p, s.coefficient, s.number));
    if (!m.copied.empty())
      for (int row = 0; row < g.rows; ++row)
        for (int unit = first_unit; unit < last_unit; ++unit) add(row, unit, E[n][size_t(row) * m.units + unit]);
  }
}

// Parameters that reach their own unit alone: P parts of the state.
template <typename T, int P>
void carry_own(const Place& p, const Group& g, T* J, size_t stride, int begin, int end) {
  const auto vector = [&](int32_t k) { return static_cast<const T*>(p.vectors[k]); };
  for (const Member& m : g.members) {
    const Inputs& inputs = p.plan->inputs[m.site];
    const int first_unit = std::max(0, (begin - m.first) / m.columns);
    const int last_unit = std::min(m.units, (end - m.first + m.columns - 1) / m.columns);
    for (int u = first_unit; u < last_unit; ++u) {  // begin and end lie between units
      T d[P][P], e[P];
      for (int i = 0; i < P; ++i) {
        e[i] = m.vectors[i] < 0 ? T(0) : vector(m.vectors[i])[u];
        for (int k = 0; k < P; ++k) d[i][k] = g.vectors[i * P + k] < 0 ? T(0) : vector(g.vectors[i * P + k])[u];
      }
      const T* const v = static_cast<const T*>(p.inputs[m.site]) + (inputs.units > 1 ? size_t(u) * inputs.columns : 0);
      T* const columns = J + m.first + size_t(u) * m.columns;
      Vector<T> between[P][P], at_once[P];
      for (int i = 0; i < P; ++i) {
        at_once[i] = spread(e[i]);
        for (int k = 0; k < P; ++k) between[i][k] = spread(d[i][k]);
      }
      const int count = m.columns;
      for (int c = 0; c < count; c += kLanes<T>) {  // a whole number of vectors
        Vector<T> old[P];
        for (int k = 0; k < P; ++k) old[k] = load(columns + k * stride + c);
        const Vector<T> given = load(v + c);
        for (int i = 0; i < P; ++i) {
          Vector<T> now = at_once[i] * given;
          for (int k = 0; k < P; ++k) now += between[i][k] * old[k];
          store(columns + i * stride + c, now);
        }
      }
    }
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

// The same steps as `carry_own`, several at once. With J_s = D_s J_(s-1) + e_s v_s,
//   J_n = M_0 J_0 + sum of M_s e_s v_s, M_s = D_n ... D_(s+1), and
//   sum of delta_s J_s = D_1' lambda_1 J_0 + sum of lambda_s e_s v_s, lambda_s = delta_s + D_(s+1)' lambda_(s+1):
// backward in time over these steps, forward over all others (as Schmidhuber 1992 does for dense U), so that J is read and
// written once. The factors are made for as many units at a time as a vector has numbers.
template <typename T, int P, bool Told>
void settle_own(const Group& g, const Past& past, T* J, size_t stride, int begin, int end, T* sums, T* factors) {
  constexpr int kTogether = kLanes<T>;
  const int width = past.width, members = int(g.members.size());
  const T *const D = static_cast<const T*>(past.D), *const E = static_cast<const T*>(past.E);
  const T* const delta = static_cast<const T*>(past.delta);
  for (int n = 0; n < members; ++n) {
    const Member& m = g.members[n];
    const int first_unit = std::max(0, (begin - m.first) / m.columns);
    const int last_unit = std::min(m.units, (end - m.first + m.columns - 1) / m.columns);
    if (first_unit >= last_unit) continue;
    const T* v[kPast];
    for (int s = 0; s < past.steps; ++s) v[s] = static_cast<const T*>(past.inputs[n]) + size_t(s) * m.columns;
    for (int block = first_unit / kTogether * kTogether; block < last_unit; block += kTogether) {
      Vector<T> M[P][P] = {}, lambda[P] = {};
      for (int i = 0; i < P; ++i) M[i][i] = spread(T(1));
      for (int s = past.steps - 1; s >= 0; --s) {
        const T* const d = D + size_t(s) * P * P * width + block;
        const T* const e = E + (size_t(s) * members + n) * P * width + block;
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
void settle_own(const Group& g, const Past& past, T* J, size_t stride, int begin, int end, T* sums, T* factors) {
  (past.told ? settle_own<T, P, true> : settle_own<T, P, false>)(g, past, J, stride, begin, end, sums, factors);
}

template <typename T>
void settle(const Group& g, const Past& past, void* J, int64_t stride, int32_t begin, int32_t end, void* sums, void* scratch) {
  T *const j = static_cast<T*>(J), *const to = static_cast<T*>(sums), *const factors = static_cast<T*>(scratch);
  switch (g.rows) {
    case 1: return settle_own<T, 1>(g, past, j, stride, begin, end, to, factors);
    case 2: return settle_own<T, 2>(g, past, j, stride, begin, end, to, factors);
    case 3: return settle_own<T, 3>(g, past, j, stride, begin, end, to, factors);
    case 4: return settle_own<T, 4>(g, past, j, stride, begin, end, to, factors);
  }
}

template <typename T>
void carry(const Place& p, const Group& g, const void* A, const void* const* E, void* J, int64_t stride, int32_t begin,
           int32_t end, void* scratch) {
  T* const j = static_cast<T*>(J);
  if (!g.own)
    return carry_whole<T>(p, g, static_cast<const T*>(A), reinterpret_cast<const T* const*>(E), j, stride, begin, end,
                          static_cast<T*>(scratch));
  switch (g.rows) {
    case 1: return carry_own<T, 1>(p, g, j, stride, begin, end);
    case 2: return carry_own<T, 2>(p, g, j, stride, begin, end);
    case 3: return carry_own<T, 3>(p, g, j, stride, begin, end);
    case 4: return carry_own<T, 4>(p, g, j, stride, begin, end);
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
  constexpr int kStrip = 8 * kLanes<T>;  // columns whose sums stay in registers while all rows are added
  for (int column = begin; column < end; column += kStrip) {
    Vector<T> total[8];
    const int vectors = std::min(8, (end - column) / kLanes<T>);
    for (int v = 0; v < vectors; ++v) total[v] = load(to + column + v * kLanes<T>);
    for (int row = 0; row < g.rows; ++row) {
      const T number = d[g.numbers[row]];
      if (number == T(0)) continue;
      const Vector<T> factor = spread(number);
      for (int v = 0; v < vectors; ++v) total[v] += factor * load(j + size_t(row) * stride + column + v * kLanes<T>);
    }
    for (int v = 0; v < vectors; ++v) store(to + column + v * kLanes<T>, total[v]);
  }
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
constexpr Carrying carrying{net<T>, make<T>, bring<T>, carry<T>, settle<T>, collect<T>, add<T>, back<T>, give<T>};

}  // namespace

extern const Carrying carrying_f32, carrying_f64;
const Carrying carrying_f32 = carrying<float>, carrying_f64 = carrying<double>;

}  // namespace RECURRA_ISA
}  // namespace recurra
