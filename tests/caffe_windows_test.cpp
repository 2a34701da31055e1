// The layers of BVLC Caffe over images and their windows that are not in layers_test.cpp, each against its
// definition written out as plain loops, or numbers worked out by hand, after Caffe's documentation
// (caffe.proto, layers/*.hpp at commit 9b891540); and what they say to bad input.
#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "crema/net.hpp"
#include "layer_checks.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

NetParameter NetOf(const std::string& text) {
  NetParameter spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

struct DeconvolutionCase {
  std::string fields;
  int64_t outputs, group, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation;
};

// Its definition: every number of the bottom adds the kernel, scaled by it, to where it stands times the
// stride.
Values Scattered(const DeconvolutionCase& c, const Shape& x_shape, const Shape& y_shape, const Values& x,
                 const Values& w, const Values& bias) {
  Values y(static_cast<size_t>(CountOf(y_shape)));
  const auto at = [](const Shape& s, int64_t n, int64_t k, int64_t h, int64_t v) {
    return static_cast<size_t>(((n * s[1] + k) * s[2] + h) * s[3] + v);
  };
  const int64_t per_group = c.outputs / c.group, inputs = x_shape[1] / c.group;
  for (int64_t n = 0; n < y_shape[0]; ++n)
    for (int64_t o = 0; o < c.outputs; ++o)
      for (int64_t s = 0; s < y_shape[2] * y_shape[3]; ++s)
        y[at(y_shape, n, o, 0, s)] = bias.empty() ? 0 : bias[static_cast<size_t>(o)];
  for (int64_t n = 0; n < x_shape[0]; ++n)
    for (int64_t i = 0; i < x_shape[1]; ++i)
      for (int64_t h = 0; h < x_shape[2]; ++h)
        for (int64_t v = 0; v < x_shape[3]; ++v)
          for (int64_t o = 0; o < per_group; ++o)
            for (int64_t kh = 0; kh < c.kernel_h; ++kh)
              for (int64_t kw = 0; kw < c.kernel_w; ++kw) {
                const int64_t yh = h * c.stride_h + kh * c.dilation - c.pad_h;
                const int64_t yw = v * c.stride_w + kw * c.dilation - c.pad_w;
                if (yh < 0 || yh >= y_shape[2] || yw < 0 || yw >= y_shape[3]) continue;
                const size_t weight =
                    static_cast<size_t>(((i * per_group + o) * c.kernel_h + kh) * c.kernel_w + kw);
                y[at(y_shape, n, i / inputs * per_group + o, yh, yw)] +=
                    w[weight] * x[at(x_shape, n, i, h, v)];
              }
  return y;
}

TEST(Deconvolution, ScattersItsKernel) {
  const Shape x_shape = {2, 4, 3, 5};
  const std::vector<DeconvolutionCase> cases = {
      {"num_output: 3 kernel_size: 2", 3, 1, 2, 2, 1, 1, 0, 0, 1},
      {"num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 2", 6, 2, 4, 4, 2, 2, 1, 1, 1},
      {"num_output: 4 kernel_size: 3 stride: 3 group: 4 bias_term: false", 4, 4, 3, 3, 3, 3, 0, 0, 1},
      {"num_output: 2 kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 0 pad_w: 2 dilation: 2", 2, 1, 2,
       3, 1, 2, 0, 2, 2}};
  for (const DeconvolutionCase& c : cases) {
    LayerBench bench({"Deconvolution", "", "convolution_param { " + c.fields + " }", {{x_shape}}});
    const Shape& y_shape = bench.top[0]->shape();
    EXPECT_EQ(y_shape[2], c.stride_h * (x_shape[2] - 1) + c.dilation * (c.kernel_h - 1) + 1 - 2 * c.pad_h)
        << c.fields;
    EXPECT_EQ(y_shape[3], c.stride_w * (x_shape[3] - 1) + c.dilation * (c.kernel_w - 1) + 1 - 2 * c.pad_w)
        << c.fields;
    EXPECT_EQ(bench.layer->param(0).shape, (Shape{4, c.outputs / c.group, c.kernel_h, c.kernel_w}));
    const Values bias = bench.layer->params().size() > 1 ? ValuesOf(bench.layer->param(1).value) : Values();
    bench.Forward();
    ExpectClose(bench.Tops(),
                Scattered(c, x_shape, y_shape, ValuesOf(bench.bottom[0]->data()),
                          ValuesOf(bench.layer->param(0).value), bias),
                1e-13, c.fields);
  }
}

// What Caffe's documentation of the bilinear filler promises: with kernel 2 f - f % 2, stride f and pad
// ceil((f - 1) / 2) images are enlarged f times; away from the border, a ramp stays a ramp.
TEST(Deconvolution, EnlargesWithTheBilinearFiller) {
  TestPlace place;
  Net net(
      place,
      NetOf(
          "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }"
          "layer { name: 'up' type: 'Deconvolution' bottom: 'x' top: 'y' convolution_param { num_output: 2 "
          "group: 2 "
          "kernel_size: 4 stride: 2 pad: 1 bias_term: false weight_filler { type: 'bilinear' } } }"),
      NetOptions());
  std::vector<float> x;
  for (int c = 0; c < 2; ++c)
    for (int h = 0; h < 3; ++h)
      for (int w = 0; w < 4; ++w) x.push_back(static_cast<float>(10 * c + 8 * h + 4 * w));
  net.SetInput("x", x);
  net.Forward(place);
  ASSERT_EQ(net.blob("y").shape(), (Shape{1, 2, 6, 8}));
  const std::vector<float> y = net.BlobValues("y");
  for (int c = 0; c < 2; ++c)
    for (int h = 1; h < 5; ++h)
      for (int w = 1; w < 7; ++w)  // pixel (h, w) of the top lies at ((h + 0.5) / 2 - 0.5, ...) of the bottom
        EXPECT_FLOAT_EQ(y[static_cast<size_t>((c * 6 + h) * 8 + w)],
                        static_cast<float>(10 * c + 8 * (h / 2.0 - 0.25) + 4 * (w / 2.0 - 0.25)));
}

TEST(Deconvolution, RefusesWhatDoesNotFit) {
  const auto error = [](const std::string& fields) {
    return ErrorOf({"Deconvolution", "", "convolution_param { " + fields + " }", {{{1, 4, 1, 1}}}});
  };
  EXPECT_THAT(error("kernel_size: 2"), HasSubstr("num_output is missing"));
  EXPECT_THAT(error("num_output: 2"), HasSubstr("kernel_size is missing"));
  EXPECT_THAT(error("num_output: 2 kernel_size: 2 group: 3"), HasSubstr("3 groups do not divide"));
  EXPECT_THAT(error("num_output: 2 kernel_size: 2 pad: 1"), HasSubstr("leaves nothing"));
}

TEST(Im2col, ListsWhatEachWindowCovers) {
  const int64_t channels = 2, height = 4, width = 5;
  const Values x = RandomValues(channels * height * width, "im2col");
  LayerBench bench(
      {"Im2col",
       "",
       "convolution_param { kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0 dilation: 2 }",
       {{{1, channels, height, width}}}});
  EXPECT_EQ(bench.top[0]->shape(), (Shape{1, channels * 3 * 2, 2, 2}));
  Put(x, &bench.bottom[0]->data());
  bench.Forward();
  Values expected;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t kh = 0; kh < 3; ++kh)
      for (int64_t kw = 0; kw < 2; ++kw)
        for (int64_t oh = 0; oh < 2; ++oh)
          for (int64_t ow = 0; ow < 2; ++ow) {
            const int64_t h = oh - 1 + 2 * kh, w = 2 * ow + 2 * kw;
            const bool inside = h >= 0 && h < height && w < width;
            expected.push_back(inside ? x[static_cast<size_t>((c * height + h) * width + w)] : 0);
          }
  EXPECT_EQ(bench.Tops(), expected);
  EXPECT_THAT(ErrorOf({"Im2col", "", "convolution_param { kernel_size: 9 }", {{{1, 1, 4, 4}}}}),
              HasSubstr("does not fit"));
}

// x / (k + alpha / m * sum of the squares around it)^beta, with m = n across channels and n * n within one,
// where Caffe's k is 1: Krizhevsky et al. 2012, section 3.3, with alpha divided as Caffe's documentation
// says.
TEST(LRN, DividesByWhatIsAround) {
  const int64_t channels = 4, height = 3, width = 4;
  const Values x = RandomValues(2 * channels * height * width, "lrn");
  const auto at = [&](int64_t n, int64_t c, int64_t h, int64_t w) {
    return static_cast<size_t>(((n * channels + c) * height + h) * width + w);
  };
  for (const bool within : {false, true}) {
    Values expected(x.size());
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t h = 0; h < height; ++h)
          for (int64_t w = 0; w < width; ++w) {
            double sum = 0;
            if (within) {
              for (int64_t y = std::max<int64_t>(0, h - 1); y <= std::min(height - 1, h + 1); ++y)
                for (int64_t v = std::max<int64_t>(0, w - 1); v <= std::min(width - 1, w + 1); ++v)
                  sum += std::pow(x[at(n, c, y, v)], 2);
            } else {
              for (int64_t k = std::max<int64_t>(0, c - 1); k <= std::min(channels - 1, c + 1); ++k)
                sum += std::pow(x[at(n, k, h, w)], 2);
            }
            const double scale = within ? 1 + 2.0 / 9 * sum : 3 + 2.0 / 3 * sum;
            expected[at(n, c, h, w)] = x[at(n, c, h, w)] / std::pow(scale, 0.625);
          }
    const std::string region = within ? "norm_region: WITHIN_CHANNEL" : "";
    const std::string fields = "lrn_param { local_size: 3 alpha: 2 beta: 0.625 k: 3 " + region + " }";
    ExpectClose(TopsOf({"LRN", "", fields, {{{2, channels, height, width}}}}, {x}), expected, 1e-14, fields);
  }
  EXPECT_THAT(ErrorOf({"LRN", "", "lrn_param { local_size: 4 }", {{{1, 2, 3, 3}}}}),
              HasSubstr("local_size is 4; expected an odd number"));
  EXPECT_THAT(ErrorOf({"LRN", "", "", {{{1, 2}}}}), HasSubstr("where an image"));
}

TEST(MVN, GivesMeanZeroAndVarianceOne) {
  const auto tops = [](const std::string& fields) {
    return TopsOf({"MVN", "", "mvn_param { " + fields + " }", {{{1, 2, 1, 2}}}}, {{1, 5, -3, -3}});
  };
  const auto near = [](const Values& expected) { return Pointwise(DoubleNear(1e-9), expected); };
  EXPECT_THAT(tops(""), near({-1, 1, 0, 0}));
  EXPECT_THAT(tops("normalize_variance: false"), near({-2, 2, 0, 0}));
  EXPECT_THAT(tops("eps: 2"), near({-0.5, 0.5, 0, 0}));  // added to the standard deviation, 2
  const double deviation = std::sqrt(11.0);              // of 1, 5, -3, -3, whose mean is 0
  EXPECT_THAT(tops("across_channels: true"),
              near({1 / deviation, 5 / deviation, -3 / deviation, -3 / deviation}));
  // Caffe's gradient: (dy - mean(dy) - y * mean(y * dy)) / deviation.
  const Values grad = BottomGrad({"MVN", "", "mvn_param { across_channels: true }", {{{1, 2, 1, 2}}}},
                                 {{1, 5, -3, -3}}, {1, 0, 0, 0});
  const double product = 1 / deviation / 4;
  EXPECT_THAT(
      grad,
      near({(0.75 - product / deviation) / deviation, (-0.25 - 5 * product / deviation) / deviation,
            (-0.25 + 3 * product / deviation) / deviation, (-0.25 + 3 * product / deviation) / deviation}));
}

TEST(SPP, PoolsAPyramid) {
  const auto row = [](const std::string& fields, int64_t height, int64_t width) {
    return ContractRow{"SPP", "", "spp_param { " + fields + " }", {{{1, 2, height, width}}}};
  };
  // Level after level, each in the order of channels: the whole image, then its quarters.
  EXPECT_EQ(TopsOf(row("pyramid_height: 2", 2, 4), {Counting(16)}),
            (Values{8, 16, 2, 4, 6, 8, 10, 12, 14, 16}));
  EXPECT_EQ(TopsOf(row("pyramid_height: 2 pool: AVE", 2, 4), {Counting(16)}),
            (Values{4.5, 12.5, 1.5, 3.5, 5.5, 7.5, 9.5, 11.5, 13.5, 15.5}));
  // Three rows in two bins: kernel and stride 2 from -1 on, so rows {0} and {1, 2}.
  EXPECT_EQ(TopsOf(row("pyramid_height: 2", 3, 2), {Counting(12)}),
            (Values{6, 12, 1, 2, 5, 6, 7, 8, 11, 12}));
  EXPECT_EQ(ShapeOf(row("pyramid_height: 3", 9, 8)), (Shape{1, 2 * (1 + 4 + 16)}));
  EXPECT_EQ(ShapeOf(row("pyramid_height: 1", 9, 8)), (Shape{1, 2, 1, 1}));
  EXPECT_THAT(ErrorOf(row("", 4, 4)), HasSubstr("pyramid_height is 0"));
  EXPECT_THAT(ErrorOf(row("pyramid_height: 4", 3, 3)), HasSubstr("pad below the kernel"));
}

TEST(StochasticPooling, DrawsInProportionToTheValues) {
  const int64_t samples = 20000;
  Values x;
  for (int64_t n = 0; n < samples; ++n)
    for (double value : {1.0, 2.0, 0.0, 5.0}) x.push_back(value);
  const ContractRow row{"Pooling",
                        "",
                        "pooling_param { pool: STOCHASTIC kernel_size: 2 }",
                        {{{samples, 1, 2, 2}, Fill::kPositive}}};
  std::map<double, int64_t> taken;
  for (double value : TopsOf(row, {x})) ++taken[value];
  for (double value : {1.0, 2.0, 0.0, 5.0}) {
    const double share = value / 8, deviation = std::sqrt(share * (1 - share) / samples);
    EXPECT_NEAR(static_cast<double>(taken[value]) / samples, share, 5 * deviation) << value;
  }
  ContractRow test = row;
  test.phase = TEST;
  EXPECT_DOUBLE_EQ(TopsOf(test, {x})[0], (1 + 4 + 25) / 8.0);
  const Values nothing(x.size(), 0);
  EXPECT_EQ(TopsOf(row, {nothing})[0], 0);
  EXPECT_EQ(TopsOf(test, {nothing})[0], 0);
}

}  // namespace
}  // namespace crema
