// Floor 6. Kernels of the update rules: weights, their gradients and their state. Caffe's arithmetic (BVLC
// sgd_solver.cpp and its siblings): the history holds the learning rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "crema/bfloat16.hpp"
#include "crema/head.hpp"
#include "crema/parallel.hpp"

namespace crema {

enum class RuleType { kSgd, kNesterov, kAdaGrad, kRmsProp, kAdaDelta, kAdam, kAdamW };

// All numbers that one update of one weight needs.
struct UpdateSettings {
  RuleType type = RuleType::kSgd;
  double rate = 0, momentum = 0, momentum2 = 0, delta = 0, rms_decay = 0;
  double clip = 1, part = 1;  // factors of the gradient: clipping, 1 / iter_size
  double l1 = 0, l2 = 0;      // decay
  int64_t iteration = 0;      // from 0

  // Adam's rate with the correction of both moments' bias.
  double corrected_rate() const {
    const double t = static_cast<double>(iteration + 1);
    return rate * std::sqrt(1 - std::pow(momentum2, t)) / (1 - std::pow(momentum, t));
  }
};

// The gradient that a rule sees: clipped, divided by iter_size, with the decay added.
template <class T>
struct GradientTerms {
  T clip, part, l1, l2;
  CREMA_HD T operator()(T g, T w) const {
    const T sign = static_cast<T>((w > 0) - (w < 0));
    return g * clip * part + (l2 * w + l1 * sign);
  }
};

// Rules: what to subtract from a weight w of gradient g; s0 and s1 are the state's slots.

template <class T>
struct SgdRule {
  T rate, momentum;
  CREMA_HD T operator()(T g, T, T* s0, T*, int64_t i) const { return s0[i] = momentum * s0[i] + rate * g; }
};

template <class T>
struct NesterovRule {
  T rate, momentum;
  CREMA_HD T operator()(T g, T, T* s0, T*, int64_t i) const {
    const T before = s0[i];
    s0[i] = momentum * before + rate * g;
    return (1 + momentum) * s0[i] - momentum * before;
  }
};

template <class T>
struct AdaGradRule {
  T rate, delta;
  CREMA_HD T operator()(T g, T, T* s0, T*, int64_t i) const {
    s0[i] += g * g;
    return rate * (g / (std::sqrt(s0[i]) + delta));
  }
};

template <class T>
struct RmsPropRule {
  T rate, delta, decay;
  CREMA_HD T operator()(T g, T, T* s0, T*, int64_t i) const {
    s0[i] = decay * s0[i] + (1 - decay) * g * g;
    return rate * (g / (std::sqrt(s0[i]) + delta));
  }
};

template <class T>
struct AdaDeltaRule {
  T rate, delta, momentum;
  CREMA_HD T operator()(T g, T, T* s0, T* s1, int64_t i) const {
    s0[i] = momentum * s0[i] + (1 - momentum) * g * g;
    const T update = g * std::sqrt((s1[i] + delta) / (s0[i] + delta));
    s1[i] = momentum * s1[i] + (1 - momentum) * update * update;
    return rate * update;
  }
};

// Adam with the correction of both moments' bias in the rate, and the decay of AdamW (Loshchilov and Hutter,
// arXiv 1711.05101) apart from the moments; Adam's decay is part of g.
template <class T>
struct AdamRule {
  T rate, corrected_rate, delta, beta1, beta2, l1, l2;
  CREMA_HD T operator()(T g, T w, T* s0, T* s1, int64_t i) const {
    s0[i] = beta1 * s0[i] + (1 - beta1) * g;
    s1[i] = beta2 * s1[i] + (1 - beta2) * g * g;
    const T sign = static_cast<T>((w > 0) - (w < 0));
    return corrected_rate * s0[i] / (std::sqrt(s1[i]) + delta) + rate * (l2 * w + l1 * sign);
  }
};

// Calls f(terms, rule) with the rule that the settings ask for.
template <class T, class F>
void WithRule(const UpdateSettings& s, const F& f) {
  const bool apart = s.type == RuleType::kAdamW;
  const GradientTerms<T> terms{T(s.clip), T(s.part), T(apart ? 0 : s.l1), T(apart ? 0 : s.l2)};
  const T rate = T(s.rate), momentum = T(s.momentum), delta = T(s.delta);
  switch (s.type) {
    case RuleType::kSgd:
      return f(terms, SgdRule<T>{rate, momentum});
    case RuleType::kNesterov:
      return f(terms, NesterovRule<T>{rate, momentum});
    case RuleType::kAdaGrad:
      return f(terms, AdaGradRule<T>{rate, delta});
    case RuleType::kRmsProp:
      return f(terms, RmsPropRule<T>{rate, delta, T(s.rms_decay)});
    case RuleType::kAdaDelta:
      return f(terms, AdaDeltaRule<T>{rate, delta, momentum});
    case RuleType::kAdam:
    case RuleType::kAdamW:
      return f(terms, AdamRule<T>{rate, T(s.corrected_rate()), delta, momentum, T(s.momentum2),
                                  T(apart ? s.l1 : 0), T(apart ? s.l2 : 0)});
  }
}

// Element i of a dense weight.
template <class T, class Rule>
struct UpdateElement {
  T* w;
  const T* g;
  T *s0, *s1;
  GradientTerms<T> terms;
  Rule rule;
  CREMA_HD void operator()(int64_t i) const {
    const T x = w[i];
    w[i] = x - rule(terms(g[i], x), x, s0, s1, i);
  }
};

// Random bits for the rounding of stored rows, a pure function of (key, global row, element); two numbers of
// 16 bits for each element.
struct RoundingBits {
  uint64_t key = 0;  // seed, weight and update
  CREMA_HD uint32_t OfRow(int64_t row) const {
    return static_cast<uint32_t>(MixBits(key, static_cast<uint64_t>(row)) >> 32);
  }
  // The finaliser of a 32-bit hash; one multiplication less would show in the low bits.
  CREMA_HD static uint32_t OfElement(uint32_t row, int64_t i) {
    uint32_t x = row ^ (static_cast<uint32_t>(i) * 0x9E3779B9u);
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
  }
};

// Rows of a weight and its state as they are stored: the number type T of the arithmetic or bfloat16.
template <class T, class Stored>
struct StoredRows {
  static constexpr bool kRounds = !std::is_same_v<T, Stored>;

  Stored *w, *s0, *s1;  // null: no such slot
  RowSet set;           // where it is staged, only these rows are there, one after the other
  int64_t width, first_global;
  RoundingBits rounding;

  // f(weights, slot 0, slot 1, offset in the row, count) on runs of row k, whose values are then stored; the
  // first three are arrays of as many elements as a run has at most.
  template <class Lanes, class F>
  CREMA_HD void Rewrite(int64_t k, const Lanes& lanes, const F& f) const {
    constexpr int64_t kRun = Lanes::kRun;
    const uint32_t bits = rounding.OfRow(first_global + set.Row(k));
    const int64_t begin = (set.staged() ? k : set.Row(k)) * width;
    const int64_t* const scattered = set.staged() ? nullptr : set.rows;
    PrefetchRow(w, scattered, k, set.count, width);
    if (s0 != nullptr) PrefetchRow(s0, scattered, k, set.count, width);
    if (s1 != nullptr) PrefetchRow(s1, scattered, k, set.count, width);
    T x[kRun], a[kRun] = {}, b[kRun] = {};
    for (int64_t d = lanes.first() * kRun; d < width; d += lanes.step() * kRun) {
      const int64_t n = width - d < kRun ? width - d : kRun, at = begin + d;
      for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(w[at + i]);
      if (s0 != nullptr)
        for (int64_t i = 0; i < n; ++i) a[i] = static_cast<T>(s0[at + i]);
      if (s1 != nullptr)
        for (int64_t i = 0; i < n; ++i) b[i] = static_cast<T>(s1[at + i]);
      f(x, a, b, d, n);
      uint32_t random[kRun];
      if (kRounds) Fill(random, n, bits, d);
      Store(x, w + at, n, random, 0);
      if (s0 != nullptr) Store(a, s0 + at, n, random, 16);
      if (s1 == nullptr) continue;
      if (kRounds) Fill(random, n, bits + 1, d);
      Store(b, s1 + at, n, random, 0);
    }
  }

 private:
  CREMA_HD static void Fill(uint32_t* random, int64_t n, uint32_t bits, int64_t d) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) random[i] = RoundingBits::OfElement(bits, d + i);
  }
  CREMA_HD static void Store(const T* from, T* to, int64_t n, const uint32_t*, int) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
  }
  CREMA_HD static void Store(const T* from, BFloat16* to, int64_t n, const uint32_t* random, int shift) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      to[i] = BFloat16::RoundStochastically(static_cast<float>(from[i]), random[i] >> shift);
  }
};

// One step of row k, whose gradient is grad - along * row; null: zero. None where there is a loss that is not
// finite.
template <class T, class Stored, class Rule>
struct UpdateRow {
  StoredRows<T, Stored> stored;
  const T *grad, *along;  // [rows, width], [rows]
  const T* loss;          // [1]
  GradientTerms<T> terms;
  Rule rule;

  struct Block {
    const T* grad;
    T along;
    GradientTerms<T> terms;
    Rule rule;
    template <size_t kRun>
    CREMA_HD void operator()(T (&x)[kRun], T (&a)[kRun], T (&b)[kRun], int64_t d, int64_t n) const {
      T g[kRun] = {};
      if (grad != nullptr)
        for (int64_t i = 0; i < n; ++i) g[i] = grad[d + i];
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) x[i] -= rule(terms(g[i] - along * x[i], x[i]), x[i], a, b, i);
    }
  };
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    if (loss != nullptr && !(*loss - *loss == T(0))) return;
    stored.Rewrite(k, lanes,
                   Block{grad == nullptr ? nullptr : grad + k * stored.width,
                         along == nullptr ? T(0) : along[k], terms, rule});
  }
};

}  // namespace crema
