// A whole net on a GPU against the same net on the CPU: loss and gradients of the quickstart's net, in
// float64, where rounding is no excuse, and in float32.
#include <gtest/gtest.h>

#include <cmath>

#include "contract.hpp"
#include "net/summary.hpp"
#include "solver_fixtures.hpp"

namespace crema {
namespace {

constexpr int64_t kBatch = 8, kSide = 56, kClasses = 20;

// Its images are 112 x 112; half of that is as good and four times as fast.
NetParameter QuickstartNet() {
  NetParameter spec;
  ReadText(CREMA_SOURCE_DIR "/models/quickstart/train.prototxt", &spec);
  spec = ReplaceSources(spec, {kBatch, 3, kSide, kSide});
  for (LayerParameter& layer : *spec.mutable_layer()) {
    if (layer.type() == "DistPartialFC") layer.mutable_dist_partial_fc_param()->set_num_output(kClasses);
    if (layer.type() != "Convolution") continue;
    for (uint32_t& side : *layer.mutable_convolution_param()->mutable_kernel_size())
      if (side == 7) side = 4;
  }
  return spec;
}

struct Result {
  double loss = 0;
  std::vector<std::pair<std::string, std::vector<double>>> gradients;
};

Result RunOn(std::unique_ptr<Device> device, DType real) {
  Workplace place(std::move(device), NewSelfCommunicator());
  Context& ctx = place;
  ctx.real = real;
  Net net(ctx, QuickstartNet(), NetOptions{.phase = TRAIN, .backward = true});
  std::vector<float> images, labels;
  for (int64_t i = 0; i < kBatch * 3 * kSide * kSide; ++i)
    images.push_back(std::sin(static_cast<float>(i * i % 1009)));
  for (int64_t i = 0; i < kBatch; ++i) labels.push_back(static_cast<float>(i * 7 % kClasses));
  net.SetInput("data", images);
  net.SetInput("label", labels);
  net.ZeroParamGrads();
  Result result;
  result.loss = net.Forward(ctx);
  net.Backward(ctx);
  for (const Param* param : net.params()) {
    if (!param->needs_grad()) continue;
    result.gradients.push_back({param->name, ValuesOf(param->row_sparse ? param->row_grad : param->grad)});
  }
  return result;
}

double Largest(const std::vector<double>& values) {
  double largest = 0;
  for (double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

void Compare(DType real, double tolerance) {
  const Result cpu = RunOn(NewCpuDevice(), real), gpu = RunOn(NewTestDevice(), real);
  EXPECT_NEAR(gpu.loss, cpu.loss, tolerance * cpu.loss);
  ASSERT_EQ(gpu.gradients.size(), cpu.gradients.size());
  double of_the_net = 0;
  for (const auto& [name, gradient] : cpu.gradients) of_the_net = std::max(of_the_net, Largest(gradient));
  for (size_t k = 0; k < cpu.gradients.size(); ++k) {
    const auto& [name, expected] = cpu.gradients[k];
    const std::vector<double>& found = gpu.gradients[k].second;
    ASSERT_EQ(found.size(), expected.size()) << name;
    // A bias before another batch norm has no gradient but for rounding.
    const double scale = std::max(Largest(expected), 1e-3 * of_the_net);
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[i], tolerance * scale) << name << ", element " << i;
  }
}

TEST(NetOnGpu, HasTheCpusLossAndGradientsInDoublePrecision) {
  Compare(DType::kF64, 1e-9);
}

TEST(NetOnGpu, HasTheCpusLossAndGradientsInSinglePrecision) {
  Compare(DType::kF32, 2e-3);
}

TEST(NetOnGpu, Tf32IsNearToFloat32AndOnlyWhereItIsAskedFor) {
  if (!TestsRunOnGpu()) {
    EXPECT_THROW(NewCpuDevice()->AllowTf32(), Error);
    return;
  }
  const double exact = RunOn(NewTestDevice(), DType::kF32).loss;
  std::unique_ptr<Device> device = NewTestDevice();
  device->AllowTf32();
  const double rounded = RunOn(std::move(device), DType::kF32).loss;
  EXPECT_NE(rounded, exact);
  EXPECT_NEAR(rounded, exact, 2e-2 * exact);
}

TEST(NetOnGpu, MayUseAlgorithmsThatVaryWhereThatIsAllowed) {
  const double same = RunOn(NewTestDevice(), DType::kF64).loss;
  std::unique_ptr<Device> device = NewTestDevice();
  device->AllowVariation();
  EXPECT_NEAR(RunOn(std::move(device), DType::kF64).loss, same, 1e-9 * same);
}

}  // namespace
}  // namespace crema
