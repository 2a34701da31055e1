// Building, planning and running nets.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "crema/net.hpp"
#include "net/plan.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

NetParameter Parse(const std::string& text) {
  NetParameter spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

std::string ErrorOf(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

NetOptions Training() {
  NetOptions options;
  options.phase = TRAIN;
  options.backward = true;
  return options;
}

std::string Input(const std::string& dims, const std::string& top = "x") {
  std::string text = "layer { name: 'in_" + top + "' type: 'Input' top: '" + top + "' input_param { shape { ";
  std::istringstream in(dims);
  for (std::string dim; in >> dim;) text += "dim: " + dim + " ";
  return text + "} } } ";
}

TEST(Plan, BuffersAliveTogetherNeverOverlap) {
  const Philox random = MakePhilox(1, "plan");
  for (uint64_t round = 0; round < 20; ++round) {
    std::vector<Lifetime> lives;
    int64_t most = 0;
    for (uint64_t i = 0; i < 60; ++i) {
      const Philox::Words r = random.At(round * 1000 + i);
      const int64_t begin = r.w[0] % 50;
      lives.push_back({r.w[1] % 100000, begin, begin + r.w[2] % 20, -1});
    }
    const int64_t total = PlaceBuffers(&lives);
    for (const Lifetime& a : lives) {
      EXPECT_GE(a.offset, 0);
      EXPECT_LE(a.offset + a.bytes, total);
      for (const Lifetime& b : lives) {
        const bool together = a.begin <= b.end && b.begin <= a.end;
        if (&a == &b || !together) continue;
        EXPECT_TRUE(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset);
      }
    }
    for (int64_t t = 0; t < 70; ++t) {
      int64_t now = 0;
      for (const Lifetime& life : lives) now += life.begin <= t && t <= life.end ? life.bytes : 0;
      most = std::max(most, now);
    }
    EXPECT_LT(total, most * 3 / 2) << "far from the least that could do";
  }
}

// A small net with fan-out, in-place names, a shared weight and two losses.
const char* kBranches = R"(
  layer { name: 'in' type: 'Input' top: 'x' top: 't' input_param { shape { dim: 4 dim: 6 } shape { dim: 4 dim: 3 } } }
  layer { name: 'a' type: 'InnerProduct' bottom: 'x' top: 'a' param { name: 'w' } param { lr_mult: 2 }
          inner_product_param { num_output: 3 weight_filler { type: 'xavier' } } }
  layer { name: 'tanh' type: 'TanH' bottom: 'a' top: 'a' }
  layer { name: 'b' type: 'InnerProduct' bottom: 'x' top: 'b' param { name: 'w' }
          inner_product_param { num_output: 3 bias_term: false weight_filler { type: 'xavier' } } }
  layer { name: 'sum' type: 'Eltwise' bottom: 'a' bottom: 'b' bottom: 'a' top: 's' }
  layer { name: 'relu' type: 'ReLU' bottom: 's' top: 's' }
  layer { name: 'l1' type: 'EuclideanLoss' bottom: 's' bottom: 't' top: 'l1' }
  layer { name: 'l2' type: 'EuclideanLoss' bottom: 'a' bottom: 't' top: 'l2' loss_weight: 0.25 } )";

std::vector<float> Ramp(int64_t count, float from, float step) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = from + step * static_cast<float>(i % 7);
  return values;
}

void SetInputs(Net* net) {
  net->SetInput("x", Ramp(net->blob("x").count(), -0.5f, 0.21f));
  net->SetInput("t", Ramp(net->blob("t").count(), 0.4f, -0.1f));
}

TEST(Net, GradientsOfFanOutAndSharedWeightsAreRight) {
  TestPlace place;
  Context& ctx = place;
  ctx.real = DType::kF64;
  Net net(ctx, Parse(kBranches), Training());
  ASSERT_EQ(net.params().size(), 2u);  // the shared weight once, one bias
  EXPECT_EQ(net.layer("a")->params()[0], net.layer("b")->params()[0]);
  SetInputs(&net);
  net.ZeroParamGrads();
  net.Forward(ctx);
  net.Backward(ctx);
  for (Param* param : net.params()) {
    const std::vector<double> grad = param->grad.ToHost<double>();
    std::vector<double> value = param->value.ToHost<double>();
    for (size_t i = 0; i < value.size(); ++i) {
      const double kept = value[i], h = 1e-6;
      double loss[2];
      for (int side = 0; side < 2; ++side) {
        value[i] = kept + (side ? h : -h);
        param->value.FromHost(value);
        loss[side] = net.Forward(ctx);
      }
      value[i] = kept;
      param->value.FromHost(value);
      EXPECT_NEAR(grad[i], (loss[1] - loss[0]) / (2 * h), 1e-7) << param->name << " " << i;
    }
  }
}

TEST(Net, MemoryPlanChangesNothing) {
  TestPlace place;
  NetOptions kept = Training();
  kept.keep_blobs = true;
  Net planned(place, Parse(kBranches), Training()), plain(place, Parse(kBranches), kept);
  EXPECT_LT(planned.plan().planned, plain.plan().planned);
  for (Net* net : {&planned, &plain}) {
    SetInputs(net);
    net->ZeroParamGrads();
    net->Forward(place);
    net->Backward(place);
  }
  for (size_t i = 0; i < planned.params().size(); ++i) {
    EXPECT_EQ(planned.params()[i]->grad.ToHost<float>(), plain.params()[i]->grad.ToHost<float>());
  }
}

TEST(Net, ReportsOutputsAndLossWeights) {
  TestPlace place;
  Net net(place, Parse(kBranches), Training());
  SetInputs(&net);
  const double loss = net.Forward(place);
  const auto outputs = net.outputs();
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_EQ(outputs[0].name, "l1");
  EXPECT_EQ(outputs[1].loss_weight, 0.25f);
  EXPECT_NEAR(loss, outputs[0].values[0] + 0.25 * outputs[1].values[0], 1e-6);
}

TEST(Net, FiltersByPhaseStageAndLevel) {
  const NetParameter spec = Parse(Input("2 3") + R"(
    layer { name: 'train' type: 'ReLU' bottom: 'x' top: 'train' include { phase: TRAIN } }
    layer { name: 'deploy' type: 'ReLU' bottom: 'x' top: 'deploy' include { stage: 'deploy' not_stage: 'no' } }
    layer { name: 'not_test' type: 'ReLU' bottom: 'x' top: 'not_test' exclude { phase: TEST } }
    layer { name: 'high' type: 'ReLU' bottom: 'x' top: 'high' include { min_level: 2 max_level: 3 } } )");
  const auto has = [&](const NetOptions& options) {
    TestPlace place;
    Net net(place, spec, options);
    std::string found;
    for (const auto& layer : net.layers()) found += layer->name() + " ";
    return found;
  };
  EXPECT_EQ(has(Training()), "in_x train not_test ");
  NetOptions options;
  EXPECT_EQ(has(options), "in_x ");
  options.stages = {"deploy"}, options.level = 2;
  EXPECT_EQ(has(options), "in_x deploy high ");
  options.stages = {"deploy", "no"}, options.level = 4;
  EXPECT_EQ(has(options), "in_x ");
}

TEST(Net, NamesWhatDoesNotFit) {
  TestPlace place;
  const auto error = [&](const std::string& text) {
    return ErrorOf([&] { Net(place, Parse(Input("2 3") + text), Training()); });
  };
  EXPECT_THAT(error("layer { name: 'r' type: 'Relu' bottom: 'x' top: 'y' }"),
              HasSubstr("did you mean 'ReLU'?"));
  EXPECT_THAT(error("layer { name: 'r' type: 'ReLU' bottom: 'z' top: 'y' }"),
              HasSubstr("layer 'r' (ReLU): unknown bottom blob 'z'"));
  EXPECT_THAT(error("layer { name: 'r' type: 'ReLU' bottom: 'x' bottom: 'x' top: 'y' }"),
              HasSubstr("has 2 bottoms; expected 1"));
  EXPECT_THAT(error("layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' pooling_param { } }"),
              HasSubstr("has a pooling_param, which belongs to another type; expected relu_param"));
  EXPECT_THAT(error("layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' } layer { name: 'q' type: 'ReLU' "
                    "bottom: 'x' top: 'y' }"),
              HasSubstr("top blob 'y' is already made"));
  EXPECT_THAT(error("layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' } layer { name: 'r' type: 'ReLU' "
                    "bottom: 'x' top: 'z' }"),
              HasSubstr("two layers have the name 'r'"));
}

TEST(Net, NetLevelInputsBecomeALayer) {
  TestPlace place;
  Net net(place,
          Parse("input: 'x' input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5 "
                "layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' }"),
          NetOptions());
  EXPECT_EQ(ToString(net.blob("y").shape()), "2x3x4x5");
  net.ReshapeInput(place, "x", {1, 3, 6, 7});
  EXPECT_EQ(ToString(net.blob("y").shape()), "1x3x6x7");
  net.SetInput("x", std::vector<float>(126, 2));
  net.Forward(place);
  EXPECT_EQ(net.BlobValues("y")[125], 2);
}

TEST(Net, WeightsGoOutAndComeBack) {
  TestPlace place, other_seed;
  other_seed.context().seed = 99;
  Net from(place, Parse(kBranches), Training()), to(other_seed, Parse(kBranches), Training());
  EXPECT_NE(from.params()[0]->value.ToHost<float>(), to.params()[0]->value.ToHost<float>());
  NetParameter saved = from.ToProto();
  LayerParameter* extra = saved.add_layer();
  extra->set_name("elsewhere");
  extra->add_blobs()->add_data(1);
  EXPECT_EQ(to.CopyWeights(saved, "w"), std::vector<std::string>{"elsewhere"});
  for (size_t i = 0; i < from.params().size(); ++i) {
    EXPECT_EQ(from.params()[i]->value.ToHost<float>(), to.params()[i]->value.ToHost<float>());
  }
  saved.mutable_layer(1)->mutable_blobs(0)->mutable_shape()->set_dim(1, 7);
  EXPECT_THAT(ErrorOf([&] { to.CopyWeights(saved, "w"); }),
              HasSubstr("weight 0 of layer 'a' in 'w' has shape 3x7, but the net's has 3x6"));
}

TEST(Net, FillersDependOnNameAndSeedAlone) {
  TestPlace place;
  Net one(place, Parse(kBranches), Training());
  NetParameter longer =
      Parse(Input("1 1", "before") + "layer { name: 's' type: 'Silence' bottom: 'before' } " + kBranches);
  Net two(place, longer, Training());
  EXPECT_EQ(one.params()[0]->value.ToHost<float>(), two.params()[0]->value.ToHost<float>());
}

TEST(Net, ATestNetSharesTheWeights) {
  TestPlace place;
  Net train(place, Parse(kBranches), Training());
  NetOptions options;
  options.share = &train;
  Net test(place, Parse(kBranches), options);
  EXPECT_EQ(test.params()[0], train.params()[0]);
}

}  // namespace
}  // namespace crema
