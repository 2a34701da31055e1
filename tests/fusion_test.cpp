// The fused BatchNorm + Scale + activation against the plain chain, and recomputed tops against kept ones.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "crema/net.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

// Two convolutions, each behind a chain of the given activation, and a head; in-place names as face nets have
// them.
NetParameter ChainNet(const std::string& activation, bool fuse, const std::string& norm) {
  const auto chain = [&](const std::string& blob) {
    return Concat("layer { name: 'bn_", blob, "' type: 'BatchNorm' bottom: '", blob, "' top: '", blob,
                  "' batch_norm_param { moving_average_fraction: 0.9 ", norm, " } }", "layer { name: 'scale_",
                  blob, "' type: 'Scale' bottom: '", blob, "' top: '", blob,
                  "' scale_param { bias_term: true filler { type: 'uniform' min: 0.5 max: 1.5 }",
                  " bias_filler { type: 'gaussian' std: 0.3 } } }",
                  activation.empty() ? ""
                                     : Concat("layer { name: 'act_", blob, "' bottom: '", blob, "' top: '",
                                              blob, "' ", activation, " }"));
  };
  const std::string text = Concat(
      "fuse: ", fuse ? "true" : "false", " force_backward: true ",
      "layer { name: 'in' type: 'Input' top: 'x' top: 'label' input_param { shape { dim: 4 dim: 3 dim: 6 "
      "dim: 5 } ",
      "shape { dim: 4 } } }",
      "layer { name: 'c1' type: 'Convolution' bottom: 'x' top: 'c1' convolution_param { num_output: 32 "
      "kernel_size: 3 ",
      "pad: 1 bias_term: false weight_filler { type: 'msra' } } }", chain("c1"),
      "layer { name: 'c2' type: 'Convolution' bottom: 'c1' top: 'c2' convolution_param { num_output: 5 "
      "kernel_size: 3 ",
      "bias_term: false ", "weight_filler { type: 'msra' } } }", chain("c2"),
      "layer { name: 'fc' type: 'InnerProduct' bottom: 'c2' top: 'fc' inner_product_param { num_output: 6 ",
      "weight_filler { type: 'xavier' } } }",
      "layer { name: 'loss' type: 'MarginSoftmax' bottom: 'fc' bottom: 'label' top: 'loss' "
      "margin_softmax_param { ",
      "scale: 1 } }");
  NetParameter spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

void Step(const Context& ctx, Net* net) {
  std::vector<float> x(4 * 3 * 6 * 5);
  const Philox random = MakePhilox(1, "x");
  for (size_t i = 0; i < x.size(); ++i) x[i] = 3 + static_cast<float>(random.Normal(i));
  net->SetInput("x", x);
  net->SetInput("label", {0, 5, 2, 2});
  net->ZeroParamGrads();
  net->Forward(ctx);
  net->Backward(ctx);
}

void ExpectNear(const Tensor& a, const Tensor& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.count(), b.count());
  ForReal(a.dtype(), [&]<class T>() {
    const std::vector<T> left = a.ToHost<T>(), right = b.ToHost<T>();
    double size = 1e-2;  // a shift before a normalisation has no gradient but rounding errors
    for (T value : right) size = std::max(size, std::abs(static_cast<double>(value)));
    for (size_t i = 0; i < left.size(); ++i)
      ASSERT_NEAR(left[i], right[i], tolerance * size) << what << " " << i;
  });
}

TEST(Fusion, GivesWhatThePlainChainGives) {
  for (const char* activation :
       {"", "type: 'PReLU'", "type: 'ReLU'", "type: 'ReLU' relu_param { negative_slope: 0.1 }"}) {
    for (const char* norm : {"", "use_global_stats: true"}) {
      for (DType real : {DType::kF64, DType::kF32}) {
        SCOPED_TRACE(Concat(activation, " ", norm, " ", NameOf(real)));
        const double tolerance = real == DType::kF64 ? 1e-11 : 2e-5;
        TestPlace place;
        Context& ctx = place;
        ctx.real = real;
        NetOptions options;
        options.phase = TRAIN, options.backward = true;
        Net fused(ctx, ChainNet(activation, true, norm), options),
            plain(ctx, ChainNet(activation, false, norm), options);
        ASSERT_LT(fused.steps().size(), plain.steps().size());
        EXPECT_LT(fused.plan().planned, plain.plan().planned);
        for (int step = 0; step < 2; ++step) {
          Step(ctx, &fused), Step(ctx, &plain);
        }
        ASSERT_EQ(fused.params().size(), plain.params().size());
        for (size_t i = 0; i < fused.params().size(); ++i) {
          const Param &a = *fused.params()[i], &b = *plain.params()[i];
          ASSERT_EQ(a.name, b.name);
          ExpectNear(a.value, b.value, tolerance, a.name);
          if (!a.grad.empty()) ExpectNear(a.grad, b.grad, tolerance, a.name + " gradient");
        }
        ExpectNear(fused.blob("x").grad(), plain.blob("x").grad(), tolerance, "dx");
        const float loss = plain.outputs()[0].values[0];
        EXPECT_NEAR(fused.outputs()[0].values[0], loss, tolerance * std::max(1.0f, std::abs(loss)));
      }
    }
  }
}

TEST(Fusion, SavesTheSameFile) {
  TestPlace place;
  NetOptions options;
  options.phase = TRAIN, options.backward = true;
  Net fused(place, ChainNet("type: 'PReLU'", true, ""), options),
      plain(place, ChainNet("type: 'PReLU'", false, ""), options);
  NetParameter a = fused.ToProto(), b = plain.ToProto();
  a.clear_fuse(), b.clear_fuse();
  EXPECT_EQ(a.SerializeAsString(), b.SerializeAsString());
}

}  // namespace
}  // namespace crema
