// Values of single layers against formulas written out, and what they say to bad input.
#include <gmock/gmock.h>

#include "contract.hpp"

namespace crema {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

// ---------------------------------------------------------------------------------------------- activations

TEST(Activations, FollowTheirFormulas) {
  const ContractRow row{"", "", "", {{{2, 3}}}};
  const std::vector<double> x = {-30, -0.5, 0, 0.25, 2, 40};
  const auto check = [&](const std::string& type, const std::string& fields, double (*f)(double)) {
    ContractRow typed = row;
    typed.type = type, typed.fields = fields;
    std::vector<double> expected;
    for (double value : x) expected.push_back(f(value));
    EXPECT_THAT(TopsOf(typed, {x}), Pointwise(DoubleNear(1e-15), expected)) << type;
  };
  check("ReLU", "", [](double v) { return v > 0 ? v : 0; });
  check("ReLU", "relu_param { negative_slope: 0.25 }", [](double v) { return v > 0 ? v : 0.25 * v; });
  check("Sigmoid", "", [](double v) { return 1 / (1 + std::exp(-v)); });
  check("TanH", "", [](double v) { return std::tanh(v); });
}

TEST(Softmax, StaysFiniteForLargeScores) {
  const std::vector<double> p = TopsOf({"Softmax", "", "", {{{1, 3}}}}, {{1000, 999, -1000}});
  EXPECT_THAT(
      p, Pointwise(DoubleNear(1e-15), std::vector<double>{1 / (1 + std::exp(-1)), 1 / (1 + std::exp(1)), 0}));
}

TEST(Normalize, GivesUnitVectors) {
  const std::vector<double> x = {3, 1, 0, 2, 4, 1, 0, 0};  // 2 channels of 4 positions
  const ContractRow row{"Normalize", "", "norm_param { across_spatial: false eps: 0 }", {{{1, 2, 1, 4}}}};
  LayerBench bench(row);
  Put({2}, &bench.layer->param(0).value);
  Put({3, 1, 1, 2, 4, 1, 0, 0}, &bench.bottom[0]->data());
  bench.Forward();
  const double half = std::sqrt(2.0);
  EXPECT_THAT(bench.Tops(),
              Pointwise(DoubleNear(1e-14), std::vector<double>{1.2, half, 2, 2, 1.6, half, 0, 0}));
}

// -------------------------------------------------------------------------------------------------- pooling

Shape PoolShape(const std::string& fields, int64_t height, int64_t width) {
  return LayerBench({"Pooling", "", "pooling_param { " + fields + " }", {{{1, 1, height, width}}}})
      .top[0]
      ->shape();
}

// Sizes by Caffe's rule (pooling_layer.cpp): ceil((H + 2 pad - kernel) / stride) + 1, less one where the last
// window would start behind the image and its padding.
TEST(Pooling, HasCaffesSizes) {
  EXPECT_EQ(PoolShape("kernel_size: 3 stride: 2", 112, 6), (Shape{1, 1, 56, 3}));
  EXPECT_EQ(PoolShape("kernel_size: 3 stride: 2 round_mode: FLOOR", 112, 6), (Shape{1, 1, 55, 2}));
  EXPECT_EQ(PoolShape("kernel_size: 2 stride: 2 pad: 1", 4, 5), (Shape{1, 1, 3, 3}));
  EXPECT_EQ(PoolShape("kernel_size: 3 stride: 2 pad: 1", 5, 6), (Shape{1, 1, 3, 4}));
  EXPECT_EQ(PoolShape("kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2", 5, 7), (Shape{1, 1, 4, 3}));
  EXPECT_EQ(PoolShape("global_pooling: true", 7, 5), (Shape{1, 1, 1, 1}));
}

// The average divides by the window clipped to H + pad, not by what lies in the image.
TEST(Pooling, AveragesOverTheWindowClippedToThePaddedImage) {
  const ContractRow row{
      "Pooling", "", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", {{{1, 1, 4, 4}}}};
  std::vector<double> x(16);
  for (size_t i = 0; i < 16; ++i) x[i] = static_cast<double>(i + 1);
  // Windows start at -1, 1, 3 and end at 2, 4, 5 (= 4 + pad, not 6): lengths 3, 3, 2.
  const std::vector<double> expected = {(1 + 2 + 5 + 6) / 9.,
                                        (2 + 3 + 4 + 6 + 7 + 8) / 9.,
                                        (4 + 8) / 6.,
                                        (5 + 6 + 9 + 10 + 13 + 14) / 9.,
                                        (6 + 7 + 8 + 10 + 11 + 12 + 14 + 15 + 16) / 9.,
                                        (8 + 12 + 16) / 6.,
                                        (13 + 14) / 6.,
                                        (14 + 15 + 16) / 6.,
                                        16 / 4.};
  EXPECT_THAT(TopsOf(row, {x}), Pointwise(DoubleNear(1e-14), expected));
}

TEST(Pooling, TakesTheLargestAndGivesItsGradientToTheFirst) {
  LayerBench bench({"Pooling", "", "pooling_param { kernel_size: 2 stride: 2 }", {{{1, 1, 2, 3}}}});
  Put({-5, -2, -7, -2, -3, -7}, &bench.bottom[0]->data());
  bench.Forward();
  EXPECT_EQ(bench.Tops(), (std::vector<double>{-2, -7}));
  Put({1, 10}, &bench.top[0]->grad());
  bench.Backward();
  EXPECT_EQ(ValuesOf(bench.bottom[0]->grad()), (std::vector<double>{0, 1, 10, 0, 0, 0}));
}

// Two channels, padded: the windows of the border are cut off, and places count from the channel's corner.
TEST(Pooling, GivesThePlacesOfTheLargestAsASecondTop) {
  LayerBench bench({"Pooling", "", "pooling_param { kernel_size: 2 stride: 2 pad: 1 }", {{{1, 2, 3, 3}}}, 2});
  Put({1, 2, 9, 4, 8, 3, 5, 6, 7, -1, -2, -2, -4, -5, -3, -3, -6, -3}, &bench.bottom[0]->data());
  bench.Forward();
  EXPECT_EQ(ValuesOf(bench.top[0]->data()), (std::vector<double>{1, 9, 5, 8, -1, -2, -3, -3}));
  EXPECT_EQ(ValuesOf(bench.top[1]->data()), (std::vector<double>{0, 2, 6, 4, 0, 1, 6, 5}));
  Put({1, 2, 3, 4, 5, 6, 7, 8}, &bench.top[0]->grad());
  bench.Backward();
  EXPECT_EQ(ValuesOf(bench.bottom[0]->grad()),
            (std::vector<double>{1, 0, 2, 0, 4, 0, 3, 0, 0, 5, 6, 0, 0, 0, 8, 7, 0, 0}));
}

TEST(Pooling, RefusesWhatItCannotDo) {
  const auto error = [](const std::string& fields) {
    return ErrorOf({"Pooling", "", "pooling_param { " + fields + " }", {{{1, 1, 4, 4}}}});
  };
  EXPECT_THAT(error("kernel_size: 2 pad: 1 pool: STOCHASTIC"), HasSubstr("STOCHASTIC"));
  EXPECT_THAT(error("kernel_size: 9"), HasSubstr("does not fit"));
  EXPECT_THAT(error("kernel_size: 2 pad: 2"), HasSubstr("pad"));
  EXPECT_THAT(error("stride: 2"), HasSubstr("kernel_size"));
  EXPECT_THAT(error("kernel_size: 2 kernel_h: 2"), HasSubstr("kernel_size"));
  EXPECT_THAT(error("kernel_size: 2 global_pooling: true"), HasSubstr("global_pooling"));
}

// --------------------------------------------------------------------------------------------------- losses

// -log softmax of two samples of two positions, three classes; the second label is ignored.
TEST(SoftmaxWithLoss, DividesAsAsked) {
  const std::vector<double> x = {0.5, -1, 2, 0, 1, 0.25, 3, 1, -2, 0.5, 0, 0.75}, label = {2, 1, 0, 0};
  const auto term = [&](size_t n, size_t s, size_t own) {
    double sum = 0;
    for (size_t k = 0; k < 3; ++k) sum += std::exp(x[n * 6 + k * 2 + s]);
    return std::log(sum) - x[n * 6 + own * 2 + s];
  };
  const double sum = term(0, 0, 2) + term(1, 0, 0) + term(1, 1, 0);
  const auto loss = [&](const std::string& fields) {
    const ContractRow row{"SoftmaxWithLoss",
                          "",
                          "loss_param { ignore_label: 1 " + fields + " }",
                          {{{2, 3, 1, 2}}, {{2, 1, 1, 2}, Fill::kLabel, 3}}};
    return TopsOf(row, {x, label})[0];
  };
  EXPECT_NEAR(loss(""), sum / 3, 1e-14);
  EXPECT_NEAR(loss("normalization: VALID"), sum / 3, 1e-14);
  EXPECT_NEAR(loss("normalize: true"), sum / 3, 1e-14);
  EXPECT_NEAR(loss("normalization: FULL"), sum / 4, 1e-14);
  EXPECT_NEAR(loss("normalization: BATCH_SIZE"), sum / 2, 1e-14);
  EXPECT_NEAR(loss("normalize: false"), sum / 2, 1e-14);
  EXPECT_NEAR(loss("normalization: NONE"), sum, 1e-14);
  EXPECT_NEAR(loss("normalization: FULL normalize: false"), sum / 4, 1e-14);
}

TEST(SoftmaxWithLoss, IsZeroWhereAllLabelsAreIgnored) {
  LayerBench bench(
      {"SoftmaxWithLoss", "", "loss_param { ignore_label: 255 }", {{{2, 3}}, {{2}, Fill::kLabel, 3}}});
  Put({255, 255}, &bench.bottom[1]->data());
  bench.Forward(), bench.Backward();
  EXPECT_EQ(bench.Tops()[0], 0);
  EXPECT_EQ(bench.Gradients()[0].grad, std::vector<double>(6, 0));
}

TEST(SoftmaxWithLoss, NamesTheLabelOutOfRange) {
  const ContractRow row{"SoftmaxWithLoss", "", "", {{{2, 3}}, {{2}, Fill::kLabel, 3}}};
  const std::vector<double> scores(6, 0.5);
  EXPECT_EQ(ErrorOf(row, {scores, {1, 3}}),
            "layer 'it' (SoftmaxWithLoss): sample 1 has label 3 where one of the 3 classes, 0 to 2, was "
            "expected");
  EXPECT_THAT(ErrorOf(row, {scores, {-1, 0}}), HasSubstr("sample 0 has label -1"));
  EXPECT_THAT(ErrorOf({"SoftmaxWithLoss", "", "", {{{2, 3}}, {{4}, Fill::kLabel, 3}}}),
              HasSubstr("4 labels where 2 were expected"));
}

TEST(EuclideanLoss, IsHalfTheMeanSquaredDistance) {
  const ContractRow row{"EuclideanLoss", "", "", {{{2, 2}}, {{2, 2}}}};
  EXPECT_DOUBLE_EQ(TopsOf(row, {{1, 2, 3, 4}, {0, 4, 3, 1}})[0], (1 + 4 + 0 + 9) / 4.0);
}

TEST(Accuracy, CountsTiesAgainstTheLabel) {
  const std::vector<double> x = {3, 1, 2, 1, 1, 0, 0, 5, 6, 4, 4, 4}, label = {0, 1, 1, 2};
  const auto tops = [&](const std::string& fields) {
    return TopsOf({"Accuracy", "", fields, {{{4, 3}}, {{4}, Fill::kLabel, 3}}, 2}, {x, label});
  };
  EXPECT_EQ(tops(""), (std::vector<double>{0.25, 1, 0, 0}));
  EXPECT_EQ(tops("accuracy_param { top_k: 2 }"), (std::vector<double>{0.75, 1, 1, 0}));
  EXPECT_EQ(tops("accuracy_param { top_k: 2 ignore_label: 2 }"), (std::vector<double>{1, 1, 1, 0}));
}

// -------------------------------------------------------------------------------------------------- dropout

TEST(Dropout, DropsTheShareAskedForAndKeepsTheMean) {
  const int64_t count = 40000;
  const std::vector<double> y =
      TopsOf({"Dropout", "", "dropout_param { dropout_ratio: 0.3 }", {{{4, count / 4}}}},
             {std::vector<double>(count, 1)});
  const double dropped = static_cast<double>(std::count(y.begin(), y.end(), 0.0)) / count;
  EXPECT_NEAR(dropped, 0.3, 5 * std::sqrt(0.3 * 0.7 / count));  // five standard deviations
  for (double value : y) ASSERT_TRUE(value == 0 || std::abs(value - 1 / 0.7) < 1e-6) << value;
}

TEST(Dropout, DrawsAnewInEachPassAndForEachLayer) {
  const auto mask = [](int64_t pass, uint64_t seed) {
    LayerBench bench({"Dropout", "", "", {{{4, 50}}}});
    bench.context().pass = pass, bench.context().seed = seed;
    bench.Forward();
    return bench.Tops();
  };
  EXPECT_EQ(mask(1, 7), mask(1, 7));
  EXPECT_NE(mask(1, 7), mask(2, 7));
  EXPECT_NE(mask(1, 7), mask(1, 8));
}

// --------------------------------------------------------------------------------------------------- shapes

Shape ShapeOf(const std::string& type, const std::string& fields, const std::vector<ContractBottom>& bottoms,
              int tops = 1) {
  return LayerBench({type, "", fields, bottoms, tops}).top.back()->shape();
}

TEST(Shapes, FollowCaffesRules) {
  const std::vector<ContractBottom> x = {{{2, 3, 4, 5}}};
  EXPECT_EQ(ShapeOf("Flatten", "", x), (Shape{2, 60}));
  EXPECT_EQ(ShapeOf("Flatten", "flatten_param { axis: 0 end_axis: -3 }", x), (Shape{6, 4, 5}));
  EXPECT_EQ(ShapeOf("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", x), (Shape{2, 60}));
  EXPECT_EQ(ShapeOf("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }", x),
            (Shape{2, 3, 4, 5, 1}));
  EXPECT_EQ(ShapeOf("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: 2 num_axes: 1 }", x),
            (Shape{2, 3, 2, 2, 5}));
  EXPECT_EQ(ShapeOf("Concat", "concat_param { axis: 1 }", {{{2, 3, 4}}, {{2, 1, 4}}}), (Shape{2, 4, 4}));
  EXPECT_EQ(ShapeOf("Slice", "slice_param { slice_point: 1 }", x, 2), (Shape{2, 2, 4, 5}));
}

TEST(Shapes, AreRefusedWithTheReason) {
  const std::vector<ContractBottom> x = {{{2, 3, 4, 5}}};
  EXPECT_THAT(ErrorOf({"Reshape", "", "reshape_param { shape { dim: 7 dim: -1 } }", x}),
              HasSubstr("cannot be divided"));
  EXPECT_THAT(ErrorOf({"Concat", "", "", {{{2, 3, 4}}, {{2, 3, 5}}}}), HasSubstr("differ elsewhere"));
  EXPECT_THAT(ErrorOf({"Slice", "", "slice_param { slice_point: 3 }", x, 2}), HasSubstr("slice_point"));
  EXPECT_THAT(ErrorOf({"Slice", "", "", x, 2}), HasSubstr("2 equal parts"));
  EXPECT_THAT(ErrorOf({"Eltwise", "", "", {{{2, 3}}, {{3, 2}}}}), HasSubstr("the same"));
  EXPECT_THAT(ErrorOf({"Eltwise", "", "eltwise_param { coeff: 1 }", {{{2, 3}}, {{2, 3}}}}),
              HasSubstr("factors"));
  EXPECT_THAT(ErrorOf({"Bias", "", "bias_param { axis: 3 num_axes: 2 }", x}), HasSubstr("do not fit"));
}

TEST(Slice, UndoesConcat) {
  const std::vector<double> a = {1, 2, 3, 4}, b = {5, 6};
  EXPECT_EQ(TopsOf({"Concat", "", "", {{{2, 2}}, {{2, 1}}}}, {a, b}),
            (std::vector<double>{1, 2, 5, 3, 4, 6}));
  EXPECT_EQ(TopsOf({"Slice", "", "slice_param { slice_point: 2 }", {{{2, 3}}}, 2}, {{1, 2, 5, 3, 4, 6}}),
            (std::vector<double>{1, 2, 3, 4, 5, 6}));
}

TEST(Eltwise, MultipliesAddsAndCompares) {
  const std::vector<ContractBottom> three = {{{1, 2}}, {{1, 2}}, {{1, 2}}};
  const std::vector<std::vector<double>> x = {{1, -2}, {3, 5}, {2, 0.5}};
  EXPECT_EQ(TopsOf({"Eltwise", "", "", three}, x), (std::vector<double>{6, 3.5}));
  EXPECT_EQ(TopsOf({"Eltwise", "", "eltwise_param { coeff: 2 coeff: -1 coeff: 4 }", three}, x),
            (std::vector<double>{7, -7}));
  EXPECT_EQ(TopsOf({"Eltwise", "", "eltwise_param { operation: PROD }", three}, x),
            (std::vector<double>{6, -5}));
  EXPECT_EQ(TopsOf({"Eltwise", "", "eltwise_param { operation: MAX }", three}, x),
            (std::vector<double>{3, 5}));
}

}  // namespace
}  // namespace crema
