// Learning-rate policies against values worked out by hand from their formulas.
#include <gtest/gtest.h>

#include <cmath>

#include "crema/io.hpp"
#include "crema/solver.hpp"

namespace crema {
namespace {

SolverParameter Spec(const std::string& text) {
  SolverParameter spec;
  ParseText(text, "test", &spec);
  return spec;
}

double Rate(const std::string& text, int64_t iteration) {
  return LearningRate(Spec(text), iteration);
}

std::string MessageOf(const std::string& text) {
  try {
    Rate(text, 0);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(LrPolicy, Formulas) {
  const double tolerance = 1e-7;  // of float fields
  EXPECT_NEAR(Rate("base_lr: 0.5 lr_policy: 'fixed'", 1000), 0.5, tolerance);
  EXPECT_NEAR(Rate("base_lr: 0.5 lr_policy: 'step' gamma: 0.5 stepsize: 10", 9), 0.5, tolerance);
  EXPECT_NEAR(Rate("base_lr: 0.5 lr_policy: 'step' gamma: 0.5 stepsize: 10", 20), 0.125, tolerance);
  EXPECT_NEAR(Rate("base_lr: 0.5 lr_policy: 'exp' gamma: 0.5", 3), 0.0625, tolerance);
  EXPECT_NEAR(Rate("base_lr: 0.01 lr_policy: 'inv' gamma: 0.0001 power: 0.75", 100), 0.00992565, 1e-8);
  EXPECT_NEAR(Rate("base_lr: 1 lr_policy: 'poly' power: 2 max_iter: 100", 50), 0.25, tolerance);
  EXPECT_NEAR(Rate("base_lr: 1 lr_policy: 'poly' power: 2 max_iter: 100", 100), 0, tolerance);
  EXPECT_NEAR(Rate("base_lr: 1 lr_policy: 'sigmoid' gamma: -0.5 stepsize: 10", 10), 0.5, tolerance);
  EXPECT_NEAR(Rate("base_lr: 1 lr_policy: 'sigmoid' gamma: -0.5 stepsize: 10", 14), 1 / (1 + std::exp(2.0)),
              tolerance);
  EXPECT_NEAR(Rate("base_lr: 1 lr_policy: 'cosine' max_iter: 100", 25), (1 + std::sqrt(0.5)) / 2, tolerance);
}

TEST(LrPolicy, MultistepAdvancesOncePerIteration) {
  const std::string usual =
      "base_lr: 1 lr_policy: 'multistep' gamma: 0.5 stepvalue: 3 stepvalue: 6 stepvalue: 8";
  const double wanted[] = {1, 1, 1, .5, .5, .5, .25, .25, .125, .125};
  for (int64_t i = 0; i < 10; ++i) EXPECT_EQ(Rate(usual, i), wanted[i]) << i;
  EXPECT_EQ(LearningRateStep(Spec(usual), 7), 2);
  const std::string odd =
      "base_lr: 1 lr_policy: 'multistep' gamma: 0.5 stepvalue: 2 stepvalue: 2 stepvalue: 1";
  const double wanted_odd[] = {1, 1, .5, .25, .125, .125};
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(Rate(odd, i), wanted_odd[i]) << i;
}

TEST(LrPolicy, WarmUp) {
  const std::string poly =
      "base_lr: 1 lr_policy: 'poly' power: 1 max_iter: 110 warmup_iter: 10 warmup_start_lr: 0.5 ";
  EXPECT_NEAR(Rate(poly, 0), 0.5, 1e-7);
  EXPECT_NEAR(Rate(poly, 5), 0.75, 1e-7);
  EXPECT_NEAR(Rate(poly, 10), 1, 1e-7);
  EXPECT_NEAR(Rate(poly, 60), 0.5, 1e-7);
  EXPECT_NEAR(Rate("base_lr: 1 lr_policy: 'step' gamma: 0.5 stepsize: 20 warmup_iter: 10", 20), 0.5, 1e-7);
  EXPECT_NEAR(Rate("base_lr: 1 lr_policy: 'exp' gamma: 0.5 warmup_iter: 10", 11), 0.5, 1e-7);
}

TEST(LrPolicy, MissingFieldsAreNamed) {
  EXPECT_NE(MessageOf("lr_policy: 'fixed'").find("base_lr"), std::string::npos);
  EXPECT_NE(MessageOf("base_lr: 1").find("lr_policy"), std::string::npos);
  EXPECT_NE(MessageOf("base_lr: 1 lr_policy: 'step' gamma: 1").find("stepsize"), std::string::npos);
  EXPECT_NE(MessageOf("base_lr: 1 lr_policy: 'step' stepsize: 1").find("gamma"), std::string::npos);
  EXPECT_EQ(MessageOf("base_lr: 1 lr_policy: 'multistep' gamma: 1"), "");  // never drops, as in Caffe
  EXPECT_NE(MessageOf("base_lr: 1 lr_policy: 'inv' gamma: 1").find("power"), std::string::npos);
  EXPECT_NE(MessageOf("base_lr: 1 lr_policy: 'poly' power: 1").find("max_iter"), std::string::npos);
  EXPECT_NE(MessageOf("base_lr: 1 lr_policy: 'exp' warmup_iter: 5").find("gamma"), std::string::npos);
  EXPECT_NE(MessageOf("base_lr: 1 lr_policy: 'stairs'").find("multistep"), std::string::npos);
}

}  // namespace
}  // namespace crema
