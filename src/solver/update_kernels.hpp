// Floor 6. Kernels of the update rules: one element of a weight, its gradient and its state. Caffe's
// arithmetic (BVLC sgd_solver.cpp and its siblings): the history holds the learning rate.
#pragma once

#include <cmath>

#include "crema/parallel.hpp"

namespace crema {

// Where an element of the sweep lies in the weight and in the gradient; grad < 0: the gradient is zero.
struct Place {
  int64_t weight, grad;
};

struct DenseIndex {
  CREMA_HD Place operator()(int64_t i) const { return {i, i}; }
};

// The sweep goes over the gradient's rows; rows[k] is the weight's row of gradient row k.
struct ActiveRowsIndex {
  const int64_t* rows;
  int64_t width;
  CREMA_HD Place operator()(int64_t i) const { return {rows[i / width] * width + i % width, i}; }
};

// The sweep goes over the weight's rows; active[row] is the gradient's row, negative where it has none.
struct AllRowsIndex {
  const int64_t* active;
  int64_t width;
  CREMA_HD Place operator()(int64_t i) const {
    const int64_t row = active[i / width];
    return {i, row < 0 ? row : row * width + i % width};
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

template <class T, class Rule, class Index>
struct UpdateKernel {
  T* w;
  const T* g;
  T *s0, *s1;
  Index index;
  GradientTerms<T> terms;
  Rule rule;
  CREMA_HD void operator()(int64_t i) const {
    const Place at = index(i);
    const T x = w[at.weight];
    w[at.weight] = x - rule(terms(at.grad < 0 ? T(0) : g[at.grad], x), x, s0, s1, at.weight);
  }
};

}  // namespace crema
