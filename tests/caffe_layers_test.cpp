// The layers of BVLC Caffe that are not in layers_test.cpp, each against its definition written out as plain
// loops, or numbers worked out by hand, after Caffe's documentation (caffe.proto, layers/*.hpp at commit
// 9b891540); and what they say to bad input.
#include <gmock/gmock.h>

#include <cmath>

#include "crema/net.hpp"
#include "layer_checks.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

// ------------------------------------------------------------------------------------- element by element

TEST(CaffeActivations, FollowTheirFormulas) {
  const Values x = {-30, -2, -0.5, 0, 0.25, 2, 40};
  const auto check = [&](const std::string& type, const std::string& fields, double (*f)(double)) {
    Values expected;
    for (double value : x) expected.push_back(f(value));
    const Values found = TopsOf({type, "", fields, {{{1, 7}}}}, {x});
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(found[i], expected[i], 1e-14 * std::max(1.0, std::abs(expected[i])))
          << type << " of " << x[i];
    }
  };
  check("AbsVal", "", [](double v) { return std::abs(v); });
  check("BNLL", "", [](double v) { return std::log(1 + std::exp(v)); });
  check("Clip", "clip_param { min: -1 max: 0.125 }",
        [](double v) { return std::max(-1.0, std::min(v, 0.125)); });
  check("ELU", "", [](double v) { return v > 0 ? v : std::exp(v) - 1; });
  check("ELU", "elu_param { alpha: 0.5 }", [](double v) { return v > 0 ? v : 0.5 * (std::exp(v) - 1); });
  check("Exp", "", [](double v) { return std::exp(v); });
  check("Exp", "exp_param { base: 2 scale: 0.5 shift: 3 }",
        [](double v) { return std::pow(2, 0.5 * v + 3); });
  check("Log", "log_param { base: 10 shift: 31 }", [](double v) { return std::log10(v + 31); });
  check("Log", "log_param { scale: 2 shift: 61 }", [](double v) { return std::log(2 * v + 61); });
  check("Power", "", [](double v) { return v; });
  check("Power", "power_param { power: 3 scale: 0.5 shift: 1 }",
        [](double v) { return std::pow(1 + 0.5 * v, 3); });
  check("Power", "power_param { power: 0 shift: 7 }", [](double) { return 1.0; });
  check("Power", "power_param { power: 2 scale: 0 shift: 3 }", [](double) { return 9.0; });
  check("Swish", "", [](double v) { return v / (1 + std::exp(-v)); });
  check("Swish", "swish_param { beta: 2 }", [](double v) { return v / (1 + std::exp(-2 * v)); });
  check("Threshold", "", [](double v) { return v > 0 ? 1.0 : 0.0; });
  check("Threshold", "threshold_param { threshold: 0.25 }", [](double v) { return v > 0.25 ? 1.0 : 0.0; });
}

TEST(CaffeActivations, HaveSlopesAtTheirCorners) {
  const auto slope = [](const std::string& type, const std::string& fields, const Values& x) {
    return BottomGrad({type, "", fields, {{{1, static_cast<int64_t>(x.size())}}}}, {x}, Values(x.size(), 1));
  };
  EXPECT_EQ(slope("AbsVal", "", {-2, 0, 3}), (Values{-1, 0, 1}));
  EXPECT_EQ(slope("Clip", "clip_param { min: -1 max: 1 }", {-2, -1, 0, 1, 2}), (Values{0, 1, 1, 1, 0}));
  EXPECT_EQ(slope("Power", "power_param { power: 2 }", {0, 3}), (Values{0, 6}));
  EXPECT_EQ(slope("Power", "power_param { power: 3 }", {0, 2}), (Values{0, 12}));
  EXPECT_EQ(slope("Power", "power_param { scale: 0 }", {0, 2}), (Values{0, 0}));
  EXPECT_THAT(slope("BNLL", "", {-800, 0, 800}), Pointwise(DoubleNear(1e-15), Values{0, 0.5, 1}));
}

TEST(CaffeActivations, RefuseBadParameters) {
  const auto error = [](const std::string& type, const std::string& fields) {
    return ErrorOf({type, "", fields, {{{1, 2}}}});
  };
  EXPECT_THAT(error("Exp", "exp_param { base: 0 }"),
              HasSubstr("base is 0; expected a positive number, or -1"));
  EXPECT_THAT(error("Log", "log_param { base: -2 }"), HasSubstr("base is -2"));
  EXPECT_THAT(error("Log", "log_param { base: 1 }"), HasSubstr("other than 1"));
  EXPECT_THAT(error("Clip", ""), HasSubstr("needs both min and max"));
  EXPECT_THAT(error("Clip", "clip_param { min: 2 max: 1 }"), HasSubstr("min is 2 and max 1"));
}

// -------------------------------------------------------------------------------------- rows by number

TEST(ArgMax, GivesIndicesAndValues) {
  const std::vector<ContractBottom> x = {{{2, 2, 3}}};
  const Values values = {1, 5, 2, 5, 0, 3, -1, -2, -3, -1, -4, -9};
  const auto row = [&](const std::string& fields) {
    return ContractRow{"ArgMax", "", "argmax_param { " + fields + " }", x};
  };
  // Of equal numbers the last one counts as larger, as Caffe's sort of (value, index) has it.
  EXPECT_EQ(ShapeOf(row("")), (Shape{2, 1, 1}));
  EXPECT_EQ(TopsOf(row(""), {values}), (Values{3, 3}));
  EXPECT_EQ(ShapeOf(row("top_k: 3 out_max_val: true")), (Shape{2, 2, 3}));
  EXPECT_EQ(TopsOf(row("top_k: 3 out_max_val: true"), {values}),
            (Values{3, 1, 5, 5, 5, 3, 3, 0, 1, -1, -1, -2}));
  EXPECT_EQ(ShapeOf(row("axis: 1")), (Shape{2, 1, 3}));
  EXPECT_EQ(TopsOf(row("axis: 1"), {values}), (Values{1, 0, 1, 1, 0, 0}));
  EXPECT_EQ(ShapeOf(row("axis: -1 top_k: 2 out_max_val: true")), (Shape{2, 2, 2}));
  EXPECT_EQ(TopsOf(row("axis: -1 top_k: 2 out_max_val: true"), {values}),
            (Values{5, 2, 5, 3, -1, -2, -1, -4}));
  EXPECT_EQ(ShapeOf({"ArgMax", "", "argmax_param { top_k: 4 }", {{{2, 5}}}}), (Shape{2, 1, 4}));
  EXPECT_THAT(ErrorOf(row("top_k: 7")), HasSubstr("top_k is 7; expected 1 to 6"));
  EXPECT_THAT(ErrorOf(row("axis: 1 top_k: 3")), HasSubstr("expected 1 to 2"));
  EXPECT_THAT(ErrorOf(row("axis: 3")), HasSubstr("axis 3"));
}

TEST(BatchReindex, TakesSamplesAndAddsTheirGradients) {
  const ContractRow row{"BatchReindex", "", "", {{{3, 2}}, {{4}, Fill::kLabel, 3}}};
  const std::vector<Values> bottoms = {{1, 2, 3, 4, 5, 6}, {2, 0, 2, 2}};
  EXPECT_EQ(TopsOf(row, bottoms), (Values{5, 6, 1, 2, 5, 6, 5, 6}));
  EXPECT_EQ(BottomGrad(row, bottoms, {1, 2, 3, 4, 5, 6, 7, 8}), (Values{3, 4, 0, 0, 13, 16}));
  EXPECT_THAT(
      ErrorOf(row, {bottoms[0], {0, 3, 0, 0}}),
      HasSubstr("element 1 of 'bottom1' is 3 where the number of one of the 3 rows, 0 to 2, was expected"));
  EXPECT_THAT(ErrorOf(row, {bottoms[0], {-1, 0, 0, 0}}), HasSubstr("is -1"));
  EXPECT_THAT(ErrorOf({"BatchReindex", "", "", {{{3, 2}}, {{4, 1}, Fill::kLabel, 3}}}),
              HasSubstr("one axis"));
}

TEST(Embed, LooksUpRows) {
  LayerBench bench({"Embed", "", "embed_param { num_output: 2 input_dim: 3 }", {{{2, 2}, Fill::kLabel, 3}}});
  EXPECT_EQ(bench.top[0]->shape(), (Shape{2, 2, 2}));
  Put({1, 2, 3, 4, 5, 6}, &bench.layer->param(0).value), Put({10, 20}, &bench.layer->param(1).value);
  Put({2, 0, 2, 2}, &bench.bottom[0]->data());
  bench.Forward();
  EXPECT_EQ(bench.Tops(), (Values{15, 26, 11, 22, 15, 26, 15, 26}));
  Put({1, 2, 3, 4, 5, 6, 7, 8}, &bench.top[0]->grad());
  bench.Backward();
  EXPECT_EQ(ValuesOf(bench.layer->param(0).grad), (Values{3, 4, 0, 0, 13, 16}));
  EXPECT_EQ(ValuesOf(bench.layer->param(1).grad), (Values{16, 20}));
  Put({2, 0, 3, 2}, &bench.bottom[0]->data());
  EXPECT_THROW(bench.Forward(), Error);
  EXPECT_THAT(ErrorOf({"Embed", "", "embed_param { num_output: 2 }", {{{2}, Fill::kLabel, 3}}}),
              HasSubstr("input_dim"));
}

TEST(Filter, PassesTheSelectedSamples) {
  const ContractRow row{"Filter", "", "", {{{4, 2}}, {{4}, Fill::kLabel, 9}, {{4, 1, 1}}}, 2};
  LayerBench bench(row);
  const auto run = [&](const Values& selector) {
    Put({1, 2, 3, 4, 5, 6, 7, 8}, &bench.bottom[0]->data()), Put({6, 7, 8, 9}, &bench.bottom[1]->data());
    Put(selector, &bench.bottom[2]->data());
    bench.Forward();
  };
  run({1, 0, -2, 0});
  EXPECT_EQ(bench.top[0]->shape(), (Shape{2, 2}));
  EXPECT_EQ(bench.Tops(), (Values{1, 2, 5, 6, 6, 8}));
  Put({1, 2, 3, 4}, &bench.top[0]->grad());
  bench.Backward();
  EXPECT_EQ(ValuesOf(bench.bottom[0]->grad()), (Values{1, 2, 0, 0, 3, 4, 0, 0}));
  run({0, 0, 0, 0});
  EXPECT_EQ(bench.top[1]->shape(), (Shape{0}));
  bench.Backward();
  EXPECT_EQ(ValuesOf(bench.bottom[0]->grad()), Values(8, 0));
  run({1, 1, 1, 1});
  EXPECT_EQ(bench.Tops(), (Values{1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8, 9}));
  EXPECT_THAT(ErrorOf({"Filter", "", "", {{{4, 2}}, {{3}}}}), HasSubstr("3 samples"));
  EXPECT_THAT(ErrorOf({"Filter", "", "", {{{4, 2}}, {{4, 2}}}}), HasSubstr("one number for each sample"));
  EXPECT_THAT(ErrorOf({"Filter", "", "", {{{4, 2}}, {{4}}}, 2}),
              HasSubstr("a top for each bottom but the last"));
}

NetParameter NetOf(const std::string& text) {
  NetParameter spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

TEST(Filter, GivesLayersAboveItTheirSizesInEachPass) {
  TestPlace place;
  Net net(
      place,
      NetOf("layer { name: 'in' type: 'Input' top: 'x' top: 'select' input_param { shape { dim: 3 dim: 2 } "
            "shape { dim: 3 } } }"
            "layer { name: 'filter' type: 'Filter' bottom: 'x' bottom: 'select' top: 'some' }"
            "layer { name: 'sum' type: 'Reduction' bottom: 'some' top: 'sums' reduction_param { axis: 1 } }"),
      NetOptions());
  net.SetInput("x", {1, 2, 3, 4, 5, 6});
  const auto sums = [&](const std::vector<float>& select) {
    net.SetInput("select", select);
    net.Forward(place);
    return net.BlobValues("sums");
  };
  EXPECT_EQ(sums({0, 1, 0}), (std::vector<float>{7}));
  EXPECT_EQ(sums({1, 1, 1}), (std::vector<float>{3, 7, 11}));
  EXPECT_EQ(sums({1, 0, 1}), (std::vector<float>{3, 11}));
  EXPECT_EQ(sums({0, 0, 0}), std::vector<float>());
}

// --------------------------------------------------------------------------------------------------- shapes

TEST(Crop, CutsFromItsOffsets) {
  const auto row = [](const std::string& fields) {
    return ContractRow{"Crop", "", "crop_param { " + fields + " }", {{{1, 2, 3, 4}}, {{1, 1, 2, 2}}}};
  };
  const Values x = Counting(24);
  EXPECT_EQ(TopsOf(row(""), {x}), (Values{1, 2, 5, 6, 13, 14, 17, 18}));
  EXPECT_EQ(TopsOf(row("offset: 1"), {x}), (Values{6, 7, 10, 11, 18, 19, 22, 23}));
  EXPECT_EQ(TopsOf(row("axis: 1 offset: 1 offset: 0 offset: 2"), {x}), (Values{15, 16, 19, 20}));
  EXPECT_EQ(TopsOf(row("axis: -1 offset: 2"), {x}), (Values{3, 4, 7, 8, 11, 12, 15, 16, 19, 20, 23, 24}));
  EXPECT_EQ(BottomGrad(row("axis: 1 offset: 1 offset: 0 offset: 2"), {x}, {1, 2, 3, 4}),
            (Values{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0, 0, 0}));
  EXPECT_THAT(ErrorOf(row("offset: 2")),
              HasSubstr("axis 2 of 'bottom0' has 3 places; 2 from 2 on do not fit"));
  EXPECT_THAT(ErrorOf(row("axis: 1 offset: 0 offset: 0")), HasSubstr("expected none, one, or 3"));
  EXPECT_THAT(ErrorOf({"Crop", "", "", {{{1, 2, 3}}, {{1, 2}}}}), HasSubstr("different numbers of axes"));
}

TEST(Tile, RepeatsAlongItsAxis) {
  const auto row = [](const std::string& fields) {
    return ContractRow{"Tile", "", "tile_param { " + fields + " }", {{{2, 2, 2}}}};
  };
  EXPECT_EQ(ShapeOf(row("tiles: 3")), (Shape{2, 6, 2}));
  EXPECT_EQ(TopsOf(row("tiles: 2"), {Counting(8)}), (Values{1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8}));
  EXPECT_EQ(TopsOf(row("axis: -1 tiles: 2"), {Counting(8)}),
            (Values{1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 7, 8, 7, 8}));
  EXPECT_EQ(BottomGrad(row("tiles: 2"), {}, Counting(16)), (Values{6, 8, 10, 12, 22, 24, 26, 28}));
  EXPECT_THAT(ErrorOf(row("")), HasSubstr("tiles is 0"));
}

TEST(Split, CopiesAndAddsGradients) {
  LayerBench bench({"Split", "", "", {{{1, 2}}}, 3});
  Put({1, 2}, &bench.bottom[0]->data());
  bench.Forward();
  EXPECT_EQ(bench.Tops(), (Values{1, 2, 1, 2, 1, 2}));
  for (Blob* y : bench.top) Put({3, 5}, &y->grad());
  bench.Backward();
  EXPECT_EQ(ValuesOf(bench.bottom[0]->grad()), (Values{9, 15}));
}

TEST(Reduction, ReducesTheLastAxes) {
  const auto tops = [](const std::string& fields) {
    return TopsOf({"Reduction", "", "reduction_param { " + fields + " }", {{{2, 3}}}},
                  {{1, -2, 4, 0, 3, -5}});
  };
  EXPECT_EQ(tops(""), (Values{1}));
  EXPECT_EQ(tops("axis: 1"), (Values{3, -2}));
  EXPECT_EQ(tops("axis: -1 operation: ASUM coeff: 2"), (Values{14, 16}));
  EXPECT_EQ(tops("axis: 1 operation: SUMSQ"), (Values{21, 34}));
  EXPECT_THAT(tops("axis: 1 operation: MEAN coeff: 3"), Pointwise(DoubleNear(1e-15), Values{3, -2}));
  EXPECT_EQ(ShapeOf({"Reduction", "", "reduction_param { axis: 2 }", {{{2, 3, 4, 5}}}}), (Shape{2, 3}));
}

TEST(Parameter, StartsAtZeroOrAsItsFillerSays) {
  const auto value = [](const std::string& fields) {
    TestPlace place;
    Net net(place,
            NetOf("layer { name: 'p' type: 'Parameter' top: 'y' parameter_param { shape { dim: 2 } " +
                  fields + " } }"),
            NetOptions());
    net.Forward(place);
    return net.BlobValues("y");
  };
  EXPECT_EQ(value(""), (std::vector<float>{0, 0}));
  EXPECT_EQ(value("blob_filler { value: 3 }"), (std::vector<float>{3, 3}));
}

TEST(Parameter, IsLearnt) {
  TestPlace place;
  Net net(place,
          NetOf("layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 2 } } }"
                "layer { name: 'p' type: 'Parameter' top: 'y' parameter_param { shape { dim: 1 dim: 2 } } }"
                "layer { name: 'loss' type: 'EuclideanLoss' bottom: 'x' bottom: 'y' top: 'loss' }"),
          {.phase = TRAIN, .backward = true});
  net.SetInput("x", {1, -2});
  EXPECT_DOUBLE_EQ(net.Forward(place), 2.5);
  net.Backward(place);
  EXPECT_EQ(ValuesOf(net.params()[0]->grad), (Values{-1, 2}));
}

TEST(DummyData, FillsConstantsOnceAndDrawsOthersAnew) {
  TestPlace place;
  place.context().seed = 3;
  Net net(
      place,
      NetOf("layer { name: 'd' type: 'DummyData' top: 'c' top: 'u' dummy_data_param { num: 2 channels: 3 "
            "height: 1 "
            "width: 1 width: 4 data_filler { value: 5 } data_filler { type: 'uniform' min: 1 max: 2 } } }"),
      NetOptions());
  net.Forward(place);
  EXPECT_EQ(net.blob("c").shape(), (Shape{2, 3, 1, 1}));
  EXPECT_EQ(net.blob("u").shape(), (Shape{2, 3, 1, 4}));
  EXPECT_EQ(net.BlobValues("c"), std::vector<float>(6, 5));
  const std::vector<float> first = net.BlobValues("u");
  for (float value : first) EXPECT_TRUE(value >= 1 && value < 2) << value;
  net.SetInput("c", {1, 2, 3, 4, 5, 6});  // stays, as in Caffe
  place.context().pass = 1;
  net.Forward(place);
  EXPECT_EQ(net.BlobValues("c"), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_NE(net.BlobValues("u"), first);
  place.context().pass = 0;
  net.Forward(place);
  EXPECT_EQ(net.BlobValues("u"), first);
}

TEST(DummyData, RefusesWhatDoesNotFit) {
  const auto error = [](const std::string& fields) {
    return ErrorOf({"DummyData", "", "dummy_data_param { " + fields + " }", {}, 3});
  };
  EXPECT_EQ(error("shape { dim: 2 }"), "");
  EXPECT_EQ(TopsOf({"DummyData", "", "dummy_data_param { shape { dim: 2 } }", {}}, {}), (Values{0, 0}));
  EXPECT_THAT(error(""), HasSubstr("0 of shape for 3 tops"));
  EXPECT_THAT(error("shape { dim: 2 } shape { dim: 3 }"), HasSubstr("2 of shape for 3 tops"));
  EXPECT_THAT(error("shape { dim: 2 } data_filler {} data_filler {}"),
              HasSubstr("2 data_fillers for 3 tops"));
  EXPECT_THAT(error("shape { dim: 2 } num: 1"), HasSubstr("both given"));
  EXPECT_THAT(error("num: 1 channels: 1 height: 1"), HasSubstr("0 of width"));
}

}  // namespace
}  // namespace crema
