// Mixed precision: float16 itself, nets whose layers compute on 16 bits against the same nets in float32, and
// the loss scale. The layers one by one are in contract_test.cpp.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <opencv2/core.hpp>

#include "solver/mixed_precision.hpp"
#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

// OpenCV's conversions are the independent source.
std::vector<uint16_t> HalvesByOpenCv(const std::vector<float>& values) {
  const cv::Mat in(1, static_cast<int>(values.size()), CV_32F, const_cast<float*>(values.data()));
  cv::Mat out;
  in.convertTo(out, CV_16F);
  const uint16_t* bits = out.ptr<uint16_t>();
  return {bits, bits + values.size()};
}

TEST(Float16, ReadsAllPatterns) {
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    Float16 half;
    half.bits = static_cast<uint16_t>(bits);
    const float found = static_cast<float>(half);
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
    const float sign = bits >> 15 != 0 ? -1.0f : 1.0f;
    if (exponent == 31 && fraction != 0) {
      EXPECT_TRUE(std::isnan(found)) << bits;
    } else if (exponent == 31) {
      EXPECT_EQ(found, sign * std::numeric_limits<float>::infinity()) << bits;
    } else {
      const float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                        : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
      EXPECT_EQ(found, sign * value) << bits;
      EXPECT_EQ(Float16(found).bits, bits);
    }
  }
}

TEST(Float16, RoundsAsOpenCvDoes) {
  std::vector<float> values = {
      0.0f,      -0.0f,   1.0f,     65504.0f, 65519.9f, 65520.0f,
      -65536.0f, 1e30f,   6e-8f,    2.9e-8f,  2.98e-8f, 3e-8f,
      1e-45f,    6.1e-5f, 6.09e-5f, 2049.0f,  2051.0f,  std::numeric_limits<float>::infinity()};
  const Philox random = MakePhilox(1, "halves");
  for (uint64_t i = 0; i < 100000; ++i)
    values.push_back(static_cast<float>(random.Normal(i) * std::exp2(40 * random.Uniform(i) - 26)));
  const std::vector<uint16_t> expected = HalvesByOpenCv(values);
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(Float16(values[i]).bits, expected[i]) << values[i];
  EXPECT_TRUE(std::isnan(static_cast<float>(Float16(std::numeric_limits<float>::quiet_NaN()))));
}

// A face-like net of all that mixed precision touches: convolutions with and without a bias, depthwise, the
// fused chain and a plain PReLU, a shortcut, pooling, LRN, Im2col (which takes float32, and with a kernel of
// one pixel changes nothing), InnerProduct and a sampled head.
std::string FaceNet(int64_t batch, bool fuse = true, float loss_weight = 1) {
  const auto norm = [](const std::string& blob) {
    return Concat("layer { name: 'bn_", blob, "' type: 'BatchNorm' bottom: '", blob, "' top: '", blob, "' } ",
                  "layer { name: 'scale_", blob, "' type: 'Scale' bottom: '", blob, "' top: '", blob,
                  "' scale_param { bias_term: true } } ", "layer { name: 'act_", blob,
                  "' type: 'PReLU' bottom: '", blob, "' top: '", blob, "' } ");
  };
  const auto convolution = [](const std::string& name, const std::string& bottom,
                              const std::string& options) {
    return Concat("layer { name: '", name, "' type: 'Convolution' bottom: '", bottom, "' top: '", name,
                  "' convolution_param { kernel_size: 3 pad: 1 weight_filler { type: 'msra' } ", options,
                  " } } ");
  };
  return Concat(
      "name: 'face' fuse: ", fuse ? "true" : "false",
      " layer { name: 'in' type: 'Input' top: 'data' top: 'label' input_param { shape { dim: ", batch,
      " dim: 3 dim: 12 dim: 12 } shape { dim: ", batch, " } } } ",
      convolution("c1", "data", "num_output: 32 bias_term: false"), norm("c1"),
      convolution("c2", "c1", "num_output: 32 group: 32 bias_term: false"), norm("c2"),
      "layer { name: 'sum' type: 'Eltwise' bottom: 'c1' bottom: 'c2' top: 'sum' } ",
      convolution("c3", "sum", "num_output: 48 stride: 2"),
      "layer { name: 'act3' type: 'PReLU' bottom: 'c3' top: 'c3' } ",
      "layer { name: 'pool' type: 'Pooling' bottom: 'c3' top: 'pool' pooling_param { kernel_size: 2 stride: "
      "2 } } layer { name: 'lrn' type: 'LRN' bottom: 'pool' top: 'lrn' } ",
      "layer { name: 'columns' type: 'Im2col' bottom: 'lrn' top: 'columns' "
      "convolution_param { kernel_size: 1 } } ",
      "layer { name: 'fc' type: 'InnerProduct' bottom: 'columns' top: 'fc' "
      "inner_product_param { num_output: 24 weight_filler { type: 'xavier' } } } ",
      "layer { name: 'classes' type: 'DistPartialFC' bottom: 'fc' bottom: 'label' top: 'logits' top: 'own' "
      "dist_partial_fc_param { num_output: 20 sample_rate: 0.5 weight_filler { type: 'gaussian' std: 0.1 } } "
      "} ",
      "layer { name: 'loss' type: 'MarginSoftmax' bottom: 'logits' bottom: 'own' top: 'loss' loss_weight: ",
      loss_weight, " margin_softmax_param { scale: 16 m3: 0.2 } }");
}

constexpr int64_t kImages = 8;

SolverParameter FaceSolver(const std::string& precision, const std::string& net,
                           const std::string& more = "") {
  SolverParameter spec;
  ParseText(
      Concat("base_lr: 0.02 lr_policy: 'fixed' momentum: 0.9 weight_decay: 1e-4 max_iter: 30 random_seed: 3 ",
             "precision: ", precision, " ", more),
      "test", &spec);
  ParseText(net, "test net", spec.mutable_net_param());
  return spec;
}

// Images of this rank's part of the batch: noise around a picture of their class.
void FeedFaces(Solver* solver, const Communicator& comm) {
  const int64_t batch = kImages / comm.size(), first = comm.rank() * batch;
  std::vector<float> data, labels;
  for (int64_t n = first; n < first + batch; ++n) {
    const int64_t label = (solver->iteration() * kImages + n) % 20;
    const Philox face = MakePhilox(7, Concat("face", label)),
                 noise = MakePhilox(8, Concat(solver->iteration(), "/", n));
    for (uint64_t i = 0; i < 3 * 12 * 12; ++i)
      data.push_back(static_cast<float>(face.Normal(i) + 0.3 * noise.Normal(i)));
    labels.push_back(static_cast<float>(label));
  }
  solver->net().SetInput("data", data);
  solver->net().SetInput("label", labels);
}

std::vector<double> LossesOf(const std::string& precision, int ranks, bool fuse = true, int iterations = 30) {
  std::vector<double> losses;
  RunRanks(ranks, [&](Communicator& comm) {
    TestPlace place(comm);
    Solver solver(place, FaceSolver(precision, FaceNet(kImages / ranks, fuse)));
    for (int i = 0; i < iterations; ++i) {
      FeedFaces(&solver, comm);
      solver.Step(1);
      if (comm.root()) losses.push_back(solver.last_loss());
    }
  });
  return losses;
}

// At the first iterations the losses are those of float32 to what the format rounds; later the two trainings
// have moved apart, but both learn.
TEST(MixedPrecision, TrainsLikeFloat32) {
  for (const auto& [ranks, fuse] : {std::pair{1, true}, {1, false}, {2, true}}) {
    const std::vector<double> wanted = LossesOf("FP32", ranks, fuse);
    ASSERT_LT(wanted.back(), 0.7 * wanted.front());
    for (const auto& [precision, tolerance] : {std::pair{"BF16", 0.02}, {"FP16", 0.004}}) {
      SCOPED_TRACE(Concat(precision, " ", ranks, fuse ? " fused" : ""));
      const std::vector<double> found = LossesOf(precision, ranks, fuse);
      for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(found[i], wanted[i], tolerance * wanted[i]) << i;
      EXPECT_NE(found.front(), wanted.front());  // it did compute on 16 bits
      EXPECT_LT(found.back(), 0.7 * found.front());
    }
  }
}

TEST(MixedPrecision, KeepsHalfTheActivations) {
  TestPlace place;
  const auto planned = [&](const char* precision) {
    const Solver solver(place, FaceSolver(precision, FaceNet(64)));
    return static_cast<double>(const_cast<Solver&>(solver).net().plan().arena);
  };
  const double full = planned("FP32");
  EXPECT_LT(planned("BF16"), 0.65 * full);
  EXPECT_LT(planned("FP16"), 0.65 * full);
}

// Layers that take 16 bits get them, others float32, and labels stay what they are.
TEST(MixedPrecision, CastsWhereLayersWantIt) {
  TestPlace place;
  Solver solver(place, FaceSolver("BF16", FaceNet(kImages)));
  std::map<std::string, DType> first_bottom;
  for (const Net::Step& step : solver.net().steps()) {
    if (!step.bottom.empty()) first_bottom[step.layer->name()] = step.bottom[0]->dtype();
    for (const auto& param : step.layer->params()) EXPECT_EQ(param->dtype, DType::kF32) << param->name;
  }
  for (const char* name : {"c1", "bn_c1..act_c1", "c2", "sum", "c3", "act3", "pool", "lrn", "fc"})
    EXPECT_EQ(first_bottom.at(name), DType::kBF16) << name;
  EXPECT_EQ(first_bottom.at("columns"), DType::kF32);
  EXPECT_EQ(solver.net().blob("fc").dtype(), DType::kF32);
}

// Numbers of samples beyond what bfloat16 holds stay whole beside images of 16 bits, and the cut of an image
// needs no cast of the one that gives its size.
TEST(MixedPrecision, LeavesBottomsWithoutGradientsAlone) {
  TestPlace place;
  place.context().activations = DType::kBF16;
  NetParameter spec;
  ParseText(
      "layer { name: 'in' type: 'Input' top: 'data' top: 'numbers' "
      "input_param { shape { dim: 300 dim: 1 dim: 2 dim: 2 } shape { dim: 2 } } } "
      "layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv' "
      "convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: 'constant' value: 1 } } } "
      "layer { name: 'picked' type: 'BatchReindex' bottom: 'conv' bottom: 'numbers' top: 'picked' } "
      "layer { name: 'cut' type: 'Crop' bottom: 'conv' bottom: 'data' top: 'cut' crop_param { axis: 2 } }",
      "test net", &spec);
  Net net(place, spec, {.keep_blobs = true});
  std::vector<float> data(300 * 4);
  for (size_t i = 0; i < data.size(); ++i) data[i] = i / 4 == 257 ? 3.0f : i / 4 == 299 ? 5.0f : 1.0f;
  net.SetInput("data", data);
  net.SetInput("numbers", {257, 299});
  net.Forward(place);
  EXPECT_EQ(net.blob("picked").dtype(), DType::kBF16);
  const std::vector<float> picked = net.BlobValues("picked");
  EXPECT_EQ(picked, (std::vector<float>{3, 3, 3, 3, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5}));
  const Blobs& cut = net.steps().back().bottom;
  EXPECT_EQ(cut[0]->dtype(), DType::kBF16);
  EXPECT_EQ(cut[1]->dtype(), DType::kF32);
}

std::vector<std::vector<float>> WeightsOf(Solver* solver) {
  std::vector<std::vector<float>> all;
  for (const Param* param : solver->net().params()) {
    if (param->kind == Param::Kind::kWeight && !param->sharded) all.push_back(param->value.ToHost<float>());
  }
  return all;
}

// A loss so large that its gradients overflow at first: those updates are left out, the scale falls, and then
// training goes on.
TEST(LossScaling, MeetsOverflow) {
  LogCapture log;
  TestPlace place;
  const auto self = NewSelfCommunicator();
  Solver solver(place, FaceSolver("FP16", FaceNet(kImages, true, 2048), "clip_gradients: 1"));
  const auto start = WeightsOf(&solver);
  FeedFaces(&solver, *self);
  solver.Step(1);
  EXPECT_EQ(WeightsOf(&solver), start);
  ASSERT_FALSE(log.With("Iteration 0: a gradient overflowed float16").empty());
  EXPECT_THAT(log.With("loss scale halved to 32768"), testing::SizeIs(1));
  for (int i = 0; i < 20; ++i) {
    FeedFaces(&solver, *self);
    solver.Step(1);
  }
  EXPECT_NE(WeightsOf(&solver), start);
  EXPECT_LT(log.With("a gradient overflowed float16").size(), 17u);
}

// Class centres have had their update when a gradient below them overflows, those with a gradient of zero as
// well: they are what they would be beside weights that do not learn.
TEST(LossScaling, LeavesCentresWhole) {
  const auto self = NewSelfCommunicator();
  const auto centres = [&](bool weights_learn) {
    TestPlace place;
    SolverParameter spec = FaceSolver("FP16", FaceNet(kImages, true, 2048));
    spec.set_base_lr(1e-4f);
    for (LayerParameter& layer : *spec.mutable_net_param()->mutable_layer()) {
      if (layer.type() == "DistPartialFC")
        layer.mutable_dist_partial_fc_param()->set_update(DistPartialFCParameter::ALL_ROWS);
      const bool bias = layer.type() == "Scale" || layer.type() == "InnerProduct" ||
                        (layer.type() == "Convolution" && layer.convolution_param().bias_term());
      const bool learns = bias || layer.type() == "Convolution" || layer.type() == "PReLU";
      for (int i = 0; !weights_learn && learns && i < (bias ? 2 : 1); ++i) layer.add_param()->set_lr_mult(0);
    }
    LogCapture log;
    Solver solver(place, spec);
    for (int i = 0; i < 6; ++i) {
      FeedFaces(&solver, *self);
      solver.Step(1);
    }
    EXPECT_EQ(log.With("a gradient overflowed float16").size(), weights_learn ? 6u : 0u);
    return solver.net().layer("classes")->param(0).value.ToHost<float>();
  };
  EXPECT_EQ(centres(true), centres(false));
}

// What is not finite at a scale of 1 is no overflow.
TEST(LossScaling, EndsWhereNothingIsLeftToHalve) {
  LossScale scale;
  int halvings = 0;
  while (scale.AfterOverflow()) ++halvings;
  EXPECT_EQ(halvings, 16);
  EXPECT_EQ(scale.value(), 1);
  for (int64_t i = 0; i < LossScale::kPatience; ++i) scale.AfterFinite();
  EXPECT_EQ(scale.value(), 2);
  EXPECT_EQ(scale.iterations(), 0);
}

// A run that is resumed has the loss scale that it was stopped with, from either format of snapshots.
TEST(LossScaling, IsInTheSnapshot) {
  const auto self = NewSelfCommunicator();
  for (const char* format : {"BINARYPROTO", "HDF5"}) {
    TempFolder folder;
    const std::string more =
        Concat("clip_gradients: 1 snapshot_prefix: '", folder / "s", "' snapshot_format: ", format);
    TestPlace place;
    Solver straight(place, FaceSolver("FP16", FaceNet(kImages, true, 2048), more));
    std::string snapshot;
    for (int i = 0; i < 20; ++i) {
      FeedFaces(&straight, *self);
      straight.Step(1);
      if (i == 11) snapshot = straight.Snapshot();
    }
    TestPlace other;
    SolverOptions options;
    options.snapshot = snapshot;
    Solver resumed(other, FaceSolver("FP16", FaceNet(kImages, true, 2048), more), options);
    LogCapture log;
    for (int i = 12; i < 20; ++i) {
      FeedFaces(&resumed, *self);
      resumed.Step(1);
    }
    EXPECT_TRUE(log.With("loss scale halved to 32768").empty());
    EXPECT_EQ(WeightsOf(&resumed), WeightsOf(&straight));
  }
}

}  // namespace
}  // namespace crema
