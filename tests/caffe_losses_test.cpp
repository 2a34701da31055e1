// The losses of BVLC Caffe that are not in layers_test.cpp, each against its definition written out, or
// numbers worked out by hand, after Caffe's documentation (caffe.proto, layers/*.hpp at commit 9b891540); and
// what they say to bad input.
#include <gmock/gmock.h>

#include <cmath>

#include "crema/io.hpp"
#include "layer_checks.hpp"

namespace crema {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

TEST(ContrastiveLoss, PullsLikePairsAndPushesOthers) {
  const std::vector<ContractBottom> bottoms = {{{4, 2}}, {{4, 2}}, {{4}, Fill::kLabel, 2}};
  // Distances 5, 1, 0.5, 2.
  const std::vector<Values> x = {{3, 4, 1, 0, 0, 0, 2, 2}, {0, 0, 0, 0, 0.3, 0.4, 2, 0}, {1, 0, 0, 0}};
  const ContractRow row{"ContrastiveLoss", "", "contrastive_loss_param { margin: 1.5 }", bottoms};
  EXPECT_DOUBLE_EQ(TopsOf(row, x)[0], (25 + 0.25 + 1 + 0) / 8);
  const ContractRow legacy{"ContrastiveLoss", "",
                           "contrastive_loss_param { margin: 1.5 legacy_version: true }", bottoms};
  EXPECT_DOUBLE_EQ(TopsOf(legacy, x)[0], (25 + 0.5 + 1.25 + 0) / 8);
  // (a - b) / N for like pairs, -(margin - d) / (d + 1e-4) * (a - b) / N for others within the margin.
  const Values grad = BottomGrad(row, x, {1});
  EXPECT_THAT(grad, Pointwise(DoubleNear(1e-14), Values{0.75, 1, -0.5 / 1.0001 / 4, 0, 0.3 / 0.5001 / 4,
                                                        0.4 / 0.5001 / 4, 0, 0}));
  EXPECT_THAT(ErrorOf({"ContrastiveLoss", "", "", {{{4, 2}}, {{4, 3}}, {{4}}}}),
              HasSubstr("two of one size"));
  EXPECT_THAT(ErrorOf({"ContrastiveLoss", "", "", {{{4, 2}}, {{4, 2}}, {{3}}}}),
              HasSubstr("3 numbers where 4"));
  EXPECT_THAT(ErrorOf({"ContrastiveLoss", "", "", {{{4, 2, 2, 1}}, {{4, 2, 2, 1}}, {{4}}}}),
              HasSubstr("vectors"));
}

TEST(HingeLoss, IsOneAgainstAll) {
  const std::vector<ContractBottom> bottoms = {{{2, 3}}, {{2}, Fill::kLabel, 3}};
  const std::vector<Values> x = {{2, -3, 0.5, -1, 0.25, 0}, {0, 1}};
  // Sample 0: max(0, 1 - 2), max(0, 1 - 3), 1.5; sample 1: 0, 1 - 0.25, 1.
  EXPECT_DOUBLE_EQ(TopsOf({"HingeLoss", "", "", bottoms}, x)[0], (1.5 + 0.75 + 1) / 2);
  EXPECT_DOUBLE_EQ(TopsOf({"HingeLoss", "", "hinge_loss_param { norm: L2 }", bottoms}, x)[0],
                   (2.25 + 0.5625 + 1) / 2);
  EXPECT_EQ(BottomGrad({"HingeLoss", "", "", bottoms}, x, {1}), (Values{0, 0, 0.5, 0, -0.5, 0.5}));
  EXPECT_THAT(ErrorOf({"HingeLoss", "", "", bottoms}, {x[0], {0, 3}}), HasSubstr("sample 1 has label 3"));
}

TEST(MultinomialLogisticLoss, HoldsProbabilitiesAboveAThreshold) {
  const ContractRow row{"MultinomialLogisticLoss", "", "", {{{2, 2}}, {{2}, Fill::kLabel, 2}}};
  EXPECT_DOUBLE_EQ(TopsOf(row, {{0.25, 0.75, 1, 0}, {0, 1}})[0], (std::log(4) + 20 * std::log(10)) / 2);
  EXPECT_EQ(BottomGrad(row, {{0.25, 0.75, 1, 0.5}, {0, 1}}, {1}), (Values{-2, 0, 0, -1}));
  EXPECT_THAT(ErrorOf({"MultinomialLogisticLoss", "", "", {{{2, 2}}, {{3}, Fill::kLabel, 2}}}),
              HasSubstr("3 labels where 2"));
}

double LogSoftmax(const Values& x, size_t first, size_t stride, size_t classes, size_t k) {
  double sum = 0;
  for (size_t j = 0; j < classes; ++j) sum += std::exp(x[first + j * stride]);
  return x[first + k * stride] - std::log(sum);
}

TEST(InfogainLoss, WeighsEveryClassByTheMatrix) {
  const Values x = {0.5, -1, 2, 0, 1, 0.25}, h = {1, 0.5, 0, 0.25, 2, -1, 0, 0, 1};
  double expected = 0;
  const std::vector<size_t> label = {1, 0};
  for (size_t n = 0; n < 2; ++n)
    for (size_t k = 0; k < 3; ++k) expected -= h[label[n] * 3 + k] * LogSoftmax(x, n * 3, 1, 3, k) / 2;
  const std::vector<ContractBottom> bottoms = {{{2, 3}}, {{2}, Fill::kLabel, 3}, {{3, 3}}};
  EXPECT_NEAR(TopsOf({"InfogainLoss", "", "", bottoms}, {x, {1, 0}, h})[0], expected, 1e-14);
  // With the identity it is SoftmaxWithLoss, in each way of dividing.
  const Values identity = {1, 0, 0, 0, 1, 0, 0, 0, 1}, maps = RandomValues(2 * 3 * 4, "infogain");
  const Values labels = {0, 1, 2, 1, 1, 0, 2, 2};
  for (const std::string fields : {"", "loss_param { ignore_label: 1 }", "loss_param { normalization: FULL }",
                                   "loss_param { normalize: false }", "loss_param { normalization: NONE }"}) {
    const ContractBottom scores{{2, 3, 2, 2}}, label_map{{2, 1, 2, 2}, Fill::kLabel, 3};
    const ContractRow ours{"InfogainLoss", "", fields, {scores, label_map, {{3, 3}}}};
    const ContractRow plain{"SoftmaxWithLoss", "", fields, {scores, label_map}};
    EXPECT_NEAR(TopsOf(ours, {maps, labels, identity})[0], TopsOf(plain, {maps, labels})[0], 1e-14) << fields;
    ExpectClose(BottomGrad(ours, {maps, labels, identity}, {1}), BottomGrad(plain, {maps, labels}, {1}),
                1e-14, fields);
  }
}

TEST(InfogainLoss, ReadsItsMatrixFromAFile) {
  const std::string path = testing::TempDir() + "infogain.binaryproto";
  BlobProto blob;
  blob.set_num(1), blob.set_channels(1), blob.set_height(2), blob.set_width(2);
  for (float value : {2.0f, 0.0f, 0.0f, 1.0f}) blob.add_data(value);
  WriteBinary(path, blob);
  const std::vector<ContractBottom> bottoms = {{{2, 2}}, {{2}, Fill::kLabel, 2}};
  const ContractRow row{"InfogainLoss", "", "infogain_loss_param { source: '" + path + "' }", bottoms};
  EXPECT_DOUBLE_EQ(TopsOf(row, {{1, 1, 3, 3}, {0, 1}})[0], 1.5 * std::log(2));
  EXPECT_THAT(ErrorOf({"InfogainLoss", "", row.fields, {{{2, 3}}, {{2}, Fill::kLabel, 3}}}),
              HasSubstr("has 4 numbers where a matrix 3 x 3 was expected"));
  EXPECT_THAT(ErrorOf({"InfogainLoss", "", "", bottoms}), HasSubstr("neither a third bottom nor a source"));
}

TEST(SigmoidCrossEntropyLoss, DividesByTheSamplesUnlessTold) {
  const Values x = {0.5, -1, 2, 0, 30, -30}, target = {1, 0, 0.25, 1, 1, 0};
  const auto term = [&](size_t i) {
    const double p = 1 / (1 + std::exp(-x[i]));
    return -target[i] * std::log(p) - (1 - target[i]) * std::log1p(-p);
  };
  double sum = 0, with_one = 0;  // with_one: where the whole part of the target is not 0
  for (size_t i = 0; i < x.size(); ++i) sum += term(i), with_one += target[i] >= 1 ? term(i) : 0;
  const auto loss = [&](const std::string& fields) {
    return TopsOf({"SigmoidCrossEntropyLoss", "", "loss_param { " + fields + " }", {{{2, 3}}, {{2, 3}}}},
                  {x, target})[0];
  };
  EXPECT_NEAR(loss(""), sum / 2, 1e-12);
  EXPECT_NEAR(loss("normalization: FULL"), sum / 6, 1e-12);
  EXPECT_NEAR(loss("normalization: VALID"), sum / 6, 1e-12);
  EXPECT_NEAR(loss("normalization: NONE"), sum, 1e-12);
  EXPECT_NEAR(loss("normalize: true"), sum / 6, 1e-12);
  EXPECT_NEAR(loss("normalize: false"), sum / 2, 1e-12);
  EXPECT_NEAR(loss("ignore_label: 0"), with_one / 2, 1e-12);
  EXPECT_NEAR(loss("ignore_label: 0 normalization: VALID"), with_one / 3, 1e-12);
  EXPECT_THAT(ErrorOf({"SigmoidCrossEntropyLoss", "", "", {{{2, 3}}, {{2, 4}}}}),
              HasSubstr("two of one size"));
}

}  // namespace
}  // namespace crema
