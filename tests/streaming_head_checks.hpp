// Training a head for some updates, as one layer or as two: used by the tests over threads and over MPI.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "crema/bfloat16.hpp"
#include "crema/io.hpp"
#include "crema/net.hpp"
#include "net/streaming_head.hpp"
#include "solver/optimizer.hpp"
#include "test_place.hpp"

namespace crema {

struct StreamingCase {
  std::string head, margin;  // fields of the two layers' parameters
  std::string solver = "momentum: 0.9 weight_decay: 5e-4";
  int64_t classes = TestsRunOnGpu() ? 500 : 1500, width = 24, batch = 18;
  double pull = 1;           // times the class's first centre is what an embedding has besides noise
  bool mislabelled = false;  // one sample in three
  DType real = DType::kF32;
  int64_t updates = 20;
  int64_t catch_up_at = -1;  // before this update all rows are caught up, as for a snapshot
  bool spoilt = false;       // the last batch: no update by the solver follows, as the loss is not finite
};

// What is left of some updates.
struct Result {
  std::vector<double> losses;
  std::vector<double> embedding_grad, rows, state;  // of this rank, after the last
  StreamingTimes times;
};

inline std::vector<double> As(const Tensor& tensor) {
  std::vector<double> out;
  ForStored(DType::kF32, tensor.dtype(), [&]<class, class Stored>() {
    for (Stored value : tensor.ToHost<Stored>()) out.push_back(static_cast<double>(value));
  });
  return out;
}

inline NetParameter NetOf(const StreamingCase& c, int64_t batch, bool fuse) {
  const std::string text = Concat(
      "force_backward: true fuse: ", fuse ? "true" : "false",
      " layer { name: 'in' type: 'Input' top: 'x' top: 'label' input_param { shape { dim: ", batch,
      " dim: ", c.width, " } shape { dim: ", batch, " } } } layer { name: 'fc' type: 'DistPartialFC' ",
      "bottom: 'x' bottom: 'label' top: 'cos' top: 'own' dist_partial_fc_param { num_output: ", c.classes,
      " weight_filler { type: 'gaussian' std: 1 } ", c.head,
      " } } layer { name: 'loss' type: 'MarginSoftmax' bottom: 'cos' bottom: 'own' top: 'loss' ",
      "loss_weight: 0.5 margin_softmax_param { ", c.margin, " } }");
  NetParameter spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

// Updates on this rank's part of a batch that changes from step to step.
inline Result Train(Communicator& comm, const StreamingCase& c, bool fuse) {
  TestPlace place(comm);
  Context& ctx = place;
  ctx.seed = 5;
  ctx.real = c.real;
  NetOptions options;
  options.phase = TRAIN;
  options.backward = true;
  const int64_t mine = c.batch / comm.size();
  Net net(ctx, NetOf(c, mine, fuse), options);
  SolverParameter solver;
  ParseText(c.solver, "test", &solver);
  Optimizer optimizer(ctx, solver, net.params());
  Param whole = *net.params()[0];  // filled as one rank would
  whole.rule = nullptr;
  whole.first_row = 0, whole.shape = {c.classes, c.width}, whole.dtype = DType::kF64;
  whole.value = Tensor(*ctx.device, DType::kF64, whole.shape);
  FillParam(ctx, &whole);
  const std::vector<double> centres = whole.value.ToHost<double>();

  Result result;
  for (int64_t t = 0; t < c.updates; ++t) {
    const bool spoilt = c.spoilt && t + 1 == c.updates;
    ctx.iteration = ctx.pass = t;
    if (t == c.catch_up_at) optimizer.CatchUp(ctx);
    std::vector<float> x, label;
    const Philox random = MakePhilox(1, "x", t);
    for (int64_t i = comm.rank() * mine; i < (comm.rank() + 1) * mine; ++i) {
      const int64_t of = (i * 389 + t * 7) % c.classes;
      const bool wrong = c.mislabelled && i % 3 == 0;
      label.push_back(static_cast<float>(wrong ? (of + 1000) % c.classes : of));
      for (int64_t k = 0; k < c.width; ++k)
        x.push_back(static_cast<float>(c.pull * centres[static_cast<size_t>(of * c.width + k)] +
                                       random.Normal(static_cast<uint64_t>(i * c.width + k))));
    }
    if (spoilt) x.back() = std::numeric_limits<float>::quiet_NaN();
    net.SetInput("x", x);
    net.SetInput("label", label);
    net.ZeroParamGrads();
    optimizer.Begin(0.1, t);
    result.losses.push_back(net.Forward(ctx));
    net.Backward(ctx);
    if (!spoilt) optimizer.Update(ctx, 0.1, t);
  }
  optimizer.CatchUp(ctx);
  const std::vector<float> grad = net.BlobGrads("x");
  result.embedding_grad.assign(grad.begin(), grad.end());
  result.rows = As(net.params()[0]->value);
  for (const Tensor& slot : optimizer.states()[0].slots)
    for (double value : As(slot)) result.state.push_back(value);
  for (const Net::Step& step : net.steps())
    if (const auto* head = dynamic_cast<const StreamingHead*>(step.layer)) result.times = head->times();
  EXPECT_EQ(net.steps().size(), fuse ? 2u : 3u);
  return result;
}

inline Result TrainAlone(const StreamingCase& c, bool fuse) {
  const std::unique_ptr<Communicator> self = NewSelfCommunicator();
  return Train(*self, c, fuse);
}

inline void ExpectNear(const std::vector<double>& found, const std::vector<double>& wanted, double tolerance,
                       const char* what) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  double error = 0, size = 1e-30;
  for (size_t i = 0; i < found.size(); ++i) {
    error += (found[i] - wanted[i]) * (found[i] - wanted[i]);
    size += wanted[i] * wanted[i];
  }
  EXPECT_LT(std::sqrt(error / size), tolerance) << what;
}

}  // namespace crema
