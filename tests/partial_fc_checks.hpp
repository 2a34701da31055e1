// The head against one dense float64 softmax: used by the tests over threads and over MPI.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "crema/head.hpp"
#include "crema/net.hpp"
#include "crema/philox.hpp"
#include "test_place.hpp"

namespace crema {

struct HeadCase {
  int64_t classes = 10, width = 8;
  std::vector<int64_t> labels;  // of the global batch
  std::string head;             // fields of dist_partial_fc_param
  std::string margin;           // fields of margin_softmax_param
  double rate = 1;
  Margin rule;  // what `margin` says, for the oracle
  double scale = 16, threshold = 1;
  bool remove = true;
  double tolerance = 1e-4;
  DType real = DType::kF32;
  int steps = 20;
  bool fuse = true;
};

// Loss and gradients of the mean softmax cross-entropy over `rows` of w; written from the formulas, with
// loops.
struct DenseHead {
  double loss = 0;
  std::vector<double> dx, dw;  // [batch, width], [classes, width]

  DenseHead(const HeadCase& c, const std::vector<double>& x, const std::vector<double>& w,
            const std::vector<int64_t>& rows) {
    const int64_t d = c.width, batch = static_cast<int64_t>(c.labels.size());
    dx.assign(x.size(), 0), dw.assign(w.size(), 0);
    const auto norm = [&](const std::vector<double>& m, int64_t r) {
      double s = 0;
      for (int64_t k = 0; k < d; ++k) s += m[r * d + k] * m[r * d + k];
      return std::sqrt(s);
    };
    for (int64_t i = 0; i < batch; ++i) {
      const double nx = norm(x, i);
      std::vector<double> cosine, logit, slope;
      for (int64_t row : rows) {
        double dot = 0, nw = norm(w, row);
        for (int64_t k = 0; k < d; ++k) dot += x[i * d + k] * w[row * d + k];
        const double cos = dot / nx / nw;
        cosine.push_back(cos);
        if (row == c.labels[i]) {
          logit.push_back(c.scale * c.rule.Value(cos));
          slope.push_back(c.scale * c.rule.Derivative(cos));
        } else if (cos > c.threshold) {
          logit.push_back(c.remove ? -INFINITY : 0);
          slope.push_back(0);
        } else {
          logit.push_back(c.scale * cos);
          slope.push_back(c.scale);
        }
      }
      double sum = 0, top = *std::max_element(logit.begin(), logit.end());
      for (double l : logit) sum += std::exp(l - top);
      for (size_t j = 0; j < rows.size(); ++j) {
        const bool own = rows[j] == c.labels[i];
        const double p = std::exp(logit[j] - top) / sum;
        if (own) loss -= std::log(p) / static_cast<double>(batch);
        const double g = (p - own) * slope[j] / static_cast<double>(batch), nw = norm(w, rows[j]);
        for (int64_t k = 0; k < d; ++k) {
          const double xk = x[i * d + k] / nx, wk = w[rows[j] * d + k] / nw;
          dx[i * d + k] += g * (wk - cosine[j] * xk) / nx;
          dw[rows[j] * d + k] += g * (xk - cosine[j] * wk) / nw;
        }
      }
    }
  }
};

inline NetParameter HeadNet(const HeadCase& c, int64_t batch) {
  NetParameter spec;
  const std::string text = Concat(
      c.fuse ? "" : "fuse: false ",
      "force_backward: true layer { name: 'in' type: 'Input' top: 'x' top: 'label' input_param { shape { "
      "dim: ",
      batch, " dim: ", c.width, " } shape { dim: ", batch, " } } }",
      "layer { name: 'fc' type: 'DistPartialFC' bottom: 'x' bottom: 'label' top: 'cos' top: 'own' ",
      "dist_partial_fc_param { num_output: ", c.classes, " sample_rate: ", c.rate,
      " weight_filler { type: 'gaussian' std: 1 } ", c.head, " } }",
      "layer { name: 'loss' type: 'MarginSoftmax' bottom: 'cos' bottom: 'own' top: 'loss' "
      "margin_softmax_param { scale: ",
      c.scale, " ", c.margin, " } }");
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

// Rows drawn by any rank: what one rank alone would draw.
inline std::vector<int64_t> UnionOfRows(const HeadCase& c, uint64_t seed, int64_t iteration) {
  const ClassDraw draw(MixBits(seed, NameKey("draw/fc")), c.classes, c.rate);
  return draw.Draw({0, c.classes}, iteration, c.labels);
}

// Trains embeddings and centres by plain gradient descent for some steps, here on this rank's share of batch
// and classes, there as a whole in double, and compares all the way.
inline void CheckHead(Communicator& comm, const HeadCase& c) {
  TestPlace place(comm);
  Context& ctx = place;
  ctx.seed = 7;
  ctx.real = c.real;
  const int64_t total = static_cast<int64_t>(c.labels.size());
  // Deliberately uneven: rank r takes a share that grows with r.
  const int ranks = comm.size();
  std::vector<int64_t> first{0};
  for (int r = 0; r < ranks; ++r) first.push_back(total * (r + 1) * (r + 2) / (ranks * (ranks + 1)));
  const int64_t begin = first[comm.rank()], mine = first[comm.rank() + 1] - begin;

  NetOptions options;
  options.phase = TRAIN;
  options.backward = true;
  Net net(ctx, HeadNet(c, mine), options);
  Param& centres = *net.params()[0];

  std::vector<double> x(total * c.width), w(c.classes * c.width);
  const Philox random = MakePhilox(3, "x");
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.Normal(i));
  Param whole = centres;  // filled as one rank would
  whole.sharded = false, whole.first_row = 0, whole.shape = {c.classes, c.width}, whole.dtype = DType::kF64;
  whole.value = Tensor(*ctx.device, DType::kF64, whole.shape);
  FillParam(ctx, &whole);
  w = whole.value.ToHost<double>();

  std::vector<float> label(c.labels.begin() + begin, c.labels.begin() + begin + mine);
  std::vector<float> local(x.begin() + begin * c.width, x.begin() + (begin + mine) * c.width);
  const double rate = 0.5;
  for (int step = 0; step < c.steps; ++step) {
    ctx.iteration = ctx.pass = step;
    net.SetInput("x", local);
    net.SetInput("label", label);
    net.ZeroParamGrads();
    const double loss = net.Forward(ctx);
    net.Backward(ctx);
    const DenseHead dense(c, x, w, UnionOfRows(c, ctx.seed, step));
    ASSERT_NEAR(loss, dense.loss, c.tolerance * std::max(1.0, std::abs(dense.loss))) << "step " << step;

    const std::vector<float> dx = net.BlobGrads("x");
    double error = 0, size = 1e-30;
    for (size_t i = 0; i < dx.size(); ++i) {
      const double expected = dense.dx[begin * c.width + i];
      error += (dx[i] - expected) * (dx[i] - expected), size += expected * expected;
      local[i] -= static_cast<float>(rate * dx[i]);
    }
    ASSERT_LT(std::sqrt(error / size), 2 * c.tolerance) << "embedding gradient, step " << step;
    error = 0, size = 1e-30;
    ForReal(c.real, [&]<class T>() {
      std::vector<T> value = centres.value.ToHost<T>();
      if (!centres.rows.empty()) {
        const std::vector<T> grad = centres.row_grad.ToHost<T>();
        for (size_t i = 0; i < centres.rows.size(); ++i) {
          for (int64_t k = 0; k < c.width; ++k) {
            const double expected = dense.dw[(centres.first_row + centres.rows[i]) * c.width + k];
            const double found = grad[i * c.width + k];
            error += (found - expected) * (found - expected), size += expected * expected;
            value[centres.rows[i] * c.width + k] -= static_cast<T>(rate * found);
          }
        }
        centres.value.FromHost(value);
      }
    });
    ASSERT_LT(std::sqrt(error / size), 2 * c.tolerance) << "centre gradient, step " << step;
    for (size_t i = 0; i < x.size(); ++i) x[i] -= rate * dense.dx[i];
    for (size_t i = 0; i < w.size(); ++i) w[i] -= rate * dense.dw[i];
  }
}

// The rules a user can ask for, as one layer and as two, on class counts that 2, 3 and 4 ranks do not divide.
inline std::vector<HeadCase> HeadCases() {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 17; ++i) labels.push_back(i * 13 % 41);
  HeadCase plain;
  plain.classes = 41, plain.labels = labels;
  HeadCase arc = plain;
  arc.margin = "m2: 0.5", arc.rule = {1, 0.5, 0};
  HeadCase cos = plain;
  cos.margin = "m3: 0.4", cos.rule = {1, 0, 0.4}, cos.rate = 0.3;
  HeadCase sphere = plain;
  sphere.margin = "m1: 1.35", sphere.rule = {1.35, 0, 0}, sphere.rate = 0.5;
  HeadCase combined = plain;
  combined.margin = "m1: 1.1 m2: 0.2 m3: 0.1", combined.rule = {1.1, 0.2, 0.1}, combined.rate = 0.7;
  HeadCase positives = arc;
  positives.rate = 0;
  HeadCase straight = arc;
  straight.margin += " gradient: STRAIGHT_THROUGH", straight.rule.straight_through = true;
  HeadCase easy = arc;
  easy.margin += " easy_margin: true", easy.rule.easy = true;
  HeadCase filtered = cos;
  filtered.margin += " interclass_filter_threshold: 0.2", filtered.threshold = 0.2f;
  HeadCase zeroed = filtered;
  zeroed.margin += " filter: ZERO_LOGIT", zeroed.remove = false;
  HeadCase exact = combined;
  exact.real = DType::kF64, exact.tolerance = 1e-6;
  std::vector<HeadCase> cases = {plain,    arc,  cos,      sphere, combined, positives,
                                 straight, easy, filtered, zeroed, exact};
  const size_t count = cases.size();
  for (size_t i = 0; i < count; ++i) {
    cases.push_back(cases[i]);
    cases.back().fuse = false;
  }
  return cases;
}

}  // namespace crema
