// Layers of Caffe's forks against their published rules, written out here in other words: SphereFace
// (wy1iu/sphereface), L-Softmax (wy1iu/LargeMargin_Softmax_Loss), AM-Softmax and NormFace
// (happynear/caffe-windows), centre loss (ydwen/caffe-face), ArcFace in Caffe (xialuxi/arcface-caffe).
#include "crema/net.hpp"
#include "layer_checks.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

constexpr double kPi = 3.14159265358979323846;

double Dot(const double* a, const double* b, size_t count) {
  double sum = 0;
  for (size_t k = 0; k < count; ++k) sum += a[k] * b[k];
  return sum;
}

// ---------------------------------------------------------------------------- A-Softmax and L-Softmax

// psi(theta) by its definition (arXiv 1704.08063, equation 7), and its derivative by cos(theta).
struct Psi {
  double value, slope;
  Psi(int m, double cosine) {
    const double theta = std::acos(cosine), k = std::floor(m * theta / kPi);
    const double sign = std::fmod(k, 2) == 0 ? 1 : -1;
    value = sign * std::cos(m * theta) - 2 * k;
    slope = sign * m * std::sin(m * theta) / std::sin(theta);
  }
};

struct MarginCase {
  static constexpr size_t kSamples = 5, kWidth = 6, kClasses = 4;
  int m;
  std::string type;
  Values x, w, dy;  // w as it was filled
  std::vector<size_t> label;
  std::unique_ptr<LayerBench> bench;

  MarginCase(const std::string& layer, const std::string& field, int factor) : m(factor) {
    const char* const names[] = {"SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"};
    const ContractRow row{
        layer,
        "",
        field + " { num_output: 4 base: 3 gamma: 0.25 power: 2 type: " + names[m - 1] + " }",
        {{{5, 6}}, {{5}, Fill::kLabel, 4}},
        2};
    bench = std::make_unique<LayerBench>(row);
    x = ValuesOf(bench->bottom[0]->data()), w = ValuesOf(bench->layer->param(0).value);
    dy = ValuesOf(bench->top[0]->grad());
    for (double value : ValuesOf(bench->bottom[1]->data())) label.push_back(static_cast<size_t>(value));
    // The own class at several angles: sample 0 near its class, sample 1 opposite to it.
    for (size_t k = 0; k < kWidth; ++k) {
      x[k] = 2 * w[label[0] * kWidth + k] + 0.1 * x[k];
      x[kWidth + k] = 0.3 * x[kWidth + k] - w[label[1] * kWidth + k];
    }
    Put(x, &bench->bottom[0]->data());
    bench->Forward(), bench->Backward();
  }
};

TEST(MarginInnerProduct, IsSphereFaces) {
  for (int m : {1, 2, 3, 4}) {
    MarginCase c("MarginInnerProduct", "margin_inner_product_param", m);
    const size_t width = MarginCase::kWidth, classes = MarginCase::kClasses;
    const double lambda = 3 / std::pow(1 + 0.25 * 1, 2);  // in iteration 0 the forks have counted one pass
    Values unit = c.w, y, dx(c.x.size()), dw(c.w.size());
    for (size_t j = 0; j < classes; ++j) {
      const double length = std::sqrt(Dot(&c.w[j * width], &c.w[j * width], width));
      for (size_t k = 0; k < width; ++k) unit[j * width + k] /= length;
    }
    for (size_t n = 0; n < MarginCase::kSamples; ++n) {
      const double* x = &c.x[n * width];
      const double x_length = std::sqrt(Dot(x, x, width));
      for (size_t j = 0; j < classes; ++j) {
        const double* w = &unit[j * width];
        const double cosine = Dot(x, w, width) / x_length, dy = c.dy[n * classes + j];
        double of_w = 1, of_x = 0;  // dx = dy (of_w w + of_x x)
        if (c.label[n] == j) {
          const Psi psi(m, cosine);
          y.push_back(x_length * (lambda * cosine + psi.value) / (1 + lambda));
          const double a = psi.slope, b = (psi.value - cosine * psi.slope) / x_length,
                       norm = std::hypot(a, b);
          of_w = (lambda + a / norm) / (1 + lambda), of_x = b / norm / (1 + lambda);
        } else {
          y.push_back(x_length * cosine);
        }
        for (size_t k = 0; k < width; ++k) {
          dx[n * width + k] += dy * (of_w * w[k] + of_x * x[k]);
          dw[j * width + k] += dy * x[k];
        }
      }
    }
    ExpectNear(Top(*c.bench), y);
    ExpectNear(Top(*c.bench, 1), {lambda});
    ExpectNear(ValuesOf(c.bench->layer->param(0).value), unit);
    ExpectNear(ValuesOf(c.bench->bottom[0]->grad()), dx);
    ExpectNear(ValuesOf(c.bench->layer->param(0).grad), dw);
  }
}

TEST(MarginInnerProduct, KeepsWeightsThatAreUnitAlready) {
  MarginCase c("MarginInnerProduct", "margin_inner_product_param", 4);
  const Values once = ValuesOf(c.bench->layer->param(0).value);
  c.bench->Forward();
  EXPECT_EQ(ValuesOf(c.bench->layer->param(0).value), once);
}

TEST(LargeMarginInnerProduct, FollowsItsDefinition) {
  for (int m : {1, 2, 3, 4}) {
    MarginCase c("LargeMarginInnerProduct", "largemargin_inner_product_param", m);
    const size_t width = MarginCase::kWidth, classes = MarginCase::kClasses;
    const double lambda = 3 / std::pow(1.25, 2);
    Values y;
    for (size_t n = 0; n < MarginCase::kSamples; ++n) {
      for (size_t j = 0; j < classes; ++j) {
        const double *x = &c.x[n * width], *w = &c.w[j * width];
        const double product = Dot(x, w, width);
        const double lengths = std::sqrt(Dot(x, x, width) * Dot(w, w, width));
        const bool own = c.label[n] == j;
        y.push_back(own ? (lambda * product + lengths * Psi(m, product / lengths).value) / (1 + lambda)
                        : product);
      }
    }
    ExpectNear(Top(*c.bench), y);
    EXPECT_EQ(ValuesOf(c.bench->layer->param(0).value), c.w);
  }
}

// The schedule of SphereFace's own sphereface_model.prototxt.
TEST(MarginInnerProduct, LetsLambdaFallWithTheSolversIterations) {
  const auto lambda = [](int64_t iteration, const std::string& more) {
    const ContractRow row{
        "MarginInnerProduct",
        "",
        "margin_inner_product_param { num_output: 3 type: QUADRUPLE base: 1000 gamma: 0.12 power: 1 "
        "lambda_min: 5 " +
            more + " }",
        {{{2, 4}}, {{2}, Fill::kLabel, 3}},
        2};
    return Top(*Ran(row, {}, iteration), 1)[0];
  };
  EXPECT_NEAR(lambda(0, ""), 1000 / 1.12, 1e-4);
  EXPECT_NEAR(lambda(99, ""), 1000 / 13.0, 1e-4);
  EXPECT_NEAR(lambda(40, "iteration: 59"), 1000 / 13.0, 1e-4);
  EXPECT_EQ(lambda(28000, ""), 5);
}

TEST(MarginInnerProduct, NamesWhatIsWrong) {
  const std::vector<ContractBottom> bottoms = {{{2, 4}}, {{2}, Fill::kLabel, 3}};
  EXPECT_THAT(ErrorOf({"MarginInnerProduct", "", "", bottoms}), HasSubstr("num_output is missing"));
  EXPECT_THAT(ErrorOf({"MarginInnerProduct",
                       "",
                       "margin_inner_product_param { num_output: 3 }",
                       {{{2, 4}}, {{3}, Fill::kLabel, 3}}}),
              HasSubstr("3 labels for 2 samples"));
  EXPECT_THAT(ErrorOf({"MarginInnerProduct", "", "margin_inner_product_param { num_output: 3 }", bottoms},
                      {Values(8, 1), {0, 3}}),
              HasSubstr("sample 1 has label 3"));
}

// --------------------------------------------------------------------------- margins on own scores

const std::vector<ContractBottom> kScores = {{{3, 2}}, {{3}, Fill::kLabel, 2}};

TEST(LabelSpecificAdd, AddsOnlyWhereTheScoreIsAboveTheMargin) {
  const ContractRow row{"LabelSpecificAdd", "", "label_specific_add_param { bias: -0.35 }", kScores, 2};
  const auto bench = Ran(row, {{0.5, 0.6, 0.3, 0.9, 0.9, -0.5}, {0, 0, 1}});
  ExpectNear(Top(*bench), {0.15, 0.6, 0.3, 0.9, 0.9, -0.5}, 1e-7);
  ExpectNear(Top(*bench, 1), {-0.35}, 1e-7);
  const Values dy = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(BottomGrad(bench.get(), dy), dy);
}

TEST(LabelSpecificAdd, HandsScoresThroughInTest) {
  ContractRow row{"LabelSpecificAdd", "", "label_specific_add_param { bias: -0.35 transform_test: true }",
                  kScores, 2};
  row.phase = TEST;
  const Values scores = {0.5, 0.6, 0.3, 0.9, 0.9, -0.5};
  const auto bench = Ran(row, {scores, {0, 0, 1}});
  EXPECT_EQ(Top(*bench), scores);
  EXPECT_EQ(Top(*bench, 1), Values{0});
}

// The schedule of AM-Softmax's face_train_test_wo_fn.prototxt.
TEST(LabelSpecificAdd, AnnealsTheBiasWithTheSolversIterations) {
  const ContractRow row{
      "LabelSpecificAdd", "",
      "label_specific_add_param { iteration: 0 bias_base: 0 bias_gamma: -5e-05 bias_power: 1 "
      "bias_min: -0.4 bias_max: 0 }",
      kScores, 2};
  const auto bias = [&](int64_t iteration) { return Top(*Ran(row, {}, iteration), 1)[0]; };
  EXPECT_EQ(bias(0), 0);
  EXPECT_NEAR(bias(1000), -0.05, 1e-7);
  EXPECT_NEAR(bias(20000), -0.4, 1e-7);
}

TEST(CosinAddm, AddsTheAngleOrStepsDownPastPi) {
  const ContractRow row{"CosinAddm", "", "", kScores};
  const auto bench = Ran(row, {{0.5, 0.2, -0.95, 0.1, 0.3, 1}, {0, 0, 1}});
  ExpectNear(Top(*bench),
             {std::cos(std::acos(0.5) + 0.5), 0.2, -0.95 - 0.5 * std::sin(0.5), 0.1, 0.3, std::cos(0.5)});
  const double slope = std::sin(std::acos(0.5) + 0.5) / std::sin(std::acos(0.5));
  ExpectNear(BottomGrad(bench.get(), {2, 3, 4, 5, 6, 7}), {2 * slope, 3, 4, 5, 6, 7});
}

TEST(CombinedMargin, HasTheForksDefaultsAndSkipsTheUnlabelled) {
  for (Phase phase : {TRAIN, TEST}) {
    ContractRow row{"CombinedMargin", "", "", kScores};
    row.phase = phase;
    const auto bench = Ran(row, {{0.9, 0.2, 0.7, 0.1, 0.3, 1}, {0, -1, 1}});
    const double angle = 4 * std::acos(0.9) + 0.5;
    ExpectNear(Top(*bench), {std::cos(angle) - 0.35, 0.2, 0.7, 0.1, 0.3, std::cos(0.5) - 0.35}, 1e-7);
    const double slope = 4 * std::sin(angle) / std::sin(std::acos(0.9));
    ExpectNear(BottomGrad(bench.get(), {2, 3, 4, 5, 6, 7}), {2 * slope, 3, 4, 5, 6, 7}, 1e-7);
  }
}

TEST(OwnScores, NeedALabelForEachSample) {
  EXPECT_THAT(ErrorOf({"CosinAddm", "", "", {{{3, 2}}, {{2}, Fill::kLabel, 2}}}),
              HasSubstr("2 labels for 3 samples"));
  EXPECT_THAT(ErrorOf({"CosinAddm", "", "", kScores}, {Values(6, 0.5), {0, 2, 1}}),
              HasSubstr("sample 1 has label 2"));
}

// ------------------------------------------------------------------------------------------- centre loss

TEST(CenterLoss, MovesCentresByTheForksRule) {
  LayerBench bench(
      {"CenterLoss", "", "center_loss_param { num_output: 3 }", {{{3, 2}}, {{3}, Fill::kLabel, 3}}});
  Put({1, 2, 3, 5, -1, 0}, &bench.bottom[0]->data());
  Put({2, 2, 0}, &bench.bottom[1]->data());
  Put({0, 1, 7, 7, 2, 2}, &bench.layer->param(0).value);
  bench.Forward();
  EXPECT_DOUBLE_EQ(bench.Tops()[0], (1 + 0 + 1 + 9 + 1 + 1) / 6.0);
  // The loss's weight scales the bottom's gradient, not the centres'.
  const Values dx = BottomGrad(&bench, {0.5});
  ExpectNear(dx, {-0.5 / 3, 0, 0.5 / 3, 1.5 / 3, -0.5 / 3, -0.5 / 3});
  // Class 2: (2 - 1) + (2 - 3), (2 - 2) + (2 - 5), over 1 + 2; class 0: 1, 1 over 1 + 1.
  ExpectNear(ValuesOf(bench.layer->param(0).grad), {0.5, 0.5, 0, 0, 0, -1});
}

// -------------------------------------------------------------------------------------- unit lengths

TEST(ForkNormalize, GivesVectorsAndNorms) {
  // Two channels of two positions.
  const std::vector<ContractBottom> x = {{{1, 2, 1, 2}}};
  const auto l2 = Ran({"Normalize", "", "", x, 2}, {{3, 1, 4, 0}});
  ExpectNear(Top(*l2), {0.6, 1, 0.8, 0}, 1e-6);
  ExpectNear(Top(*l2, 1), {std::sqrt(25 + 1e-6), std::sqrt(1 + 1e-6)});
  EXPECT_EQ(l2->top[1]->shape(), (Shape{1, 1, 1, 2}));
  const auto l1 = Ran({"Normalize", "", "normalize_param { normalize_type: 'L1' }", x, 2}, {{3, 1, -4, 0}});
  ExpectNear(Top(*l1), {3 / (7 + 1e-6), 1 / (1 + 1e-6), -4 / (7 + 1e-6), 0});
  ExpectNear(Top(*l1, 1), {7 + 1e-6, 1 + 1e-6});
  EXPECT_EQ(l1->layer->params().size(), 0u);
}

TEST(ForkNormalize, LeavesOutTheNormAsAsked) {
  const Values x = {3, 4}, dy = {2, -1}, y = {0.6, 0.8};
  const double product = 0.6 * 2 - 0.8;
  const auto grad = [&](const std::string& fields, int tops) {
    const auto bench = Ran({"Normalize", "", fields, {{{1, 2}}}, tops}, {x});
    if (tops > 1) Put({10}, &bench->top[1]->grad());
    return BottomGrad(bench.get(), dy);
  };
  const Values along = {2 - 0.6 * product, -1 - 0.8 * product};
  ExpectNear(grad("", 1), {along[0] / 5, along[1] / 5}, 1e-6);
  ExpectNear(grad("normalize_param { fix_gradient: true }", 1), along, 1e-6);
  ExpectNear(grad("", 2), {along[0] / 5, along[1] / 5}, 1e-6);
  ExpectNear(grad("normalize_param { bp_norm: true }", 2), {along[0] / 5 + 6, along[1] / 5 + 8}, 1e-6);
}

TEST(ForkNormalize, IsNotMixedWithSsds) {
  EXPECT_THAT(ErrorOf({"Normalize", "", "norm_param { } normalize_param { }", {{{2, 3}}}}),
              HasSubstr("both given"));
  EXPECT_THAT(ErrorOf({"Normalize", "", "normalize_param { normalize_type: 'L3' }", {{{2, 3}}}}),
              HasSubstr("expected L2 or L1"));
}

TEST(UnitSamples, AreOfAllNumbersOfASample) {
  for (const char* type : {"L2Norm", "NormL2"}) {
    ExpectNear(Top(*Ran({type, "", "", {{{2, 2, 1, 2}}}}, {{1, 1, 1, 1, 0, 0, 0, -2}})),
               {0.5, 0.5, 0.5, 0.5, 0, 0, 0, -1}, 1e-7);
  }
}

TEST(InnerProduct, HoldsItsRowsAtLengthOne) {
  LayerBench bench({"InnerProduct",
                    "",
                    "inner_product_param { num_output: 2 normalize: true bias_term: false }",
                    {{{2, 2}}}});
  Put({3, 4, 0, 0}, &bench.layer->param(0).value);
  Put({1, 2, -1, 0.5}, &bench.bottom[0]->data());
  bench.Forward();
  ExpectNear(ValuesOf(bench.layer->param(0).value), {0.6, 0.8, 0, 0});
  ExpectNear(bench.Tops(), {2.2, 0, -0.2, 0});
  ExpectNear(BottomGrad(&bench, {1, 0, 2, 3}), {0.6, 0.8, 1.2, 1.6});
  ExpectNear(ValuesOf(bench.layer->param(0).grad), {1 - 2, 2 + 1, -3, 1.5});  // dy^T x
  EXPECT_THAT(ErrorOf({"InnerProduct",
                       "",
                       "inner_product_param { num_output: 2 normalize: true transpose: true }",
                       {{{2, 2}}}}),
              HasSubstr("normalize is for"));
}

TEST(InnerProduct, TakesItsWeightFromABottom) {
  const ContractRow row{"InnerProduct", "", "inner_product_param { bias_term: false }", {{{2, 3}}, {{2, 3}}}};
  const auto bench = Ran(row, {{1, 2, 3, 4, 5, 6}, {1, 0, -1, 0, 2, 0}});
  ExpectNear(Top(*bench), {-2, 4, -2, 10});
  EXPECT_TRUE(bench->layer->params().empty());
  ExpectNear(BottomGrad(bench.get(), {1, 0, 0, 1}), {1, 0, -1, 0, 2, 0});
  ExpectNear(ValuesOf(bench->bottom[1]->grad()), {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(ErrorOf({"InnerProduct", "", "inner_product_param { num_output: 4 }", {{{2, 3}}, {{2, 3}}}}),
              HasSubstr("expected 4x3"));
}

TEST(Scale, IsHeldWithinItsBounds) {
  LayerBench bench({"Scale", "", "scale_param { min_value: 0.5 max_value: 4 }", {{{1, 3}}}});
  Put({-1, 2, 30}, &bench.layer->param(0).value);
  Put({1, 2, 3}, &bench.bottom[0]->data());
  bench.Forward();
  EXPECT_EQ(bench.Tops(), (Values{0.5, 4, 12}));
  EXPECT_EQ(ValuesOf(bench.layer->param(0).value), (Values{0.5, 2, 4}));
  BottomGrad(&bench, {1, 10, 100});
  EXPECT_EQ(ValuesOf(bench.layer->param(0).grad), (Values{1, 20, 300}));
  EXPECT_THAT(ErrorOf({"Scale", "", "scale_param { min_value: 2 max_value: 1 }", {{{1, 3}}}}),
              HasSubstr("above"));
  EXPECT_THAT(ErrorOf({"Scale", "", "scale_param { axis: 0 min_value: 2 }", {{{1, 3}}, {{1, 3}}}}),
              HasSubstr("second bottom"));
}

// A bounded Scale is not merged into the BatchNorm before it.
TEST(Scale, IsHeldWithinItsBoundsBehindABatchNorm) {
  NetParameter spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(
    layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 4 dim: 2 } } }
    layer { name: 'norm' type: 'BatchNorm' bottom: 'x' top: 'norm' }
    layer { name: 'scale' type: 'Scale' bottom: 'norm' top: 'scale'
            scale_param { bias_term: true filler { value: 0.1 } min_value: 0.5 } })",
                                                            &spec));
  TestPlace place;
  NetOptions options;
  options.phase = TRAIN;
  Net net(place, spec, options);
  net.SetInput("x", {1, 2, 3, 4, 5, 6, 7, 9});
  net.Forward(place);
  EXPECT_EQ(ValuesOf(net.layer("scale")->param(0).value), (Values{0.5, 0.5}));
}

TEST(Filler, GaussianUnitballHasRowsOfLengthOne) {
  TestPlace place;
  Param param;
  param.name = "it/0", param.shape = {50, 2, 4}, param.total_rows = 50;
  param.filler.set_type("gaussian_unitball");
  param.filler.set_std(3);
  param.value = param.NewTensor(*place.context().device);
  FillParam(place.context(), &param);
  const Values values = ValuesOf(param.value);
  double mean = 0;
  for (size_t row = 0; row < 50; ++row) {
    EXPECT_NEAR(Dot(&values[row * 8], &values[row * 8], 8), 1, 1e-6);
    for (size_t k = 0; k < 8; ++k) mean += values[row * 8 + k] / 400;
  }
  EXPECT_NEAR(mean, 0, 5 / std::sqrt(8 * 400.0));  // five standard deviations
}

// --------------------------------------------------------------------------------------- whole heads

// The head of AM-Softmax's face_train_test_wo_fn.prototxt, made smaller, learns in a net: its layers' tops
// that nobody reads, the norm that scales the scores, and the weight held at length 1 go together.
TEST(ForkNets, RunAmSoftmaxsHead) {
  NetParameter spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(
    layer { name: 'in' type: 'Input' top: 'data' top: 'label'
            input_param { shape { dim: 6 dim: 5 } shape { dim: 6 } } }
    layer { name: 'fc5' type: 'InnerProduct' bottom: 'data' top: 'fc5'
            inner_product_param { num_output: 4 weight_filler { type: 'xavier' } } }
    layer { name: 'norm1' type: 'Normalize' bottom: 'fc5' top: 'norm1' top: 'feature_norm'
            normalize_param { bp_norm: true } }
    layer { name: 'fc6_l2' type: 'InnerProduct' bottom: 'norm1' top: 'fc6' param { lr_mult: 1 }
            inner_product_param { num_output: 3 normalize: true weight_filler { type: 'gaussian_unitball' }
                                  bias_term: false } }
    layer { name: 'label_specific_margin' type: 'LabelSpecificAdd' bottom: 'fc6' bottom: 'label' top: 'fc6_margin'
            top: 'margin' label_specific_add_param { bias: -0.1 } }
    layer { name: 'fc6_margin_scale' type: 'ChannelScale' bottom: 'fc6_margin' bottom: 'feature_norm'
            top: 'fc6_margin_scale' }
    layer { name: 'softmax_loss' type: 'SoftmaxWithLoss' bottom: 'fc6_margin_scale' bottom: 'label'
            top: 'softmax_loss' })",
                                                            &spec));
  TestPlace place;
  NetOptions options;
  options.phase = TRAIN, options.backward = true;
  Net net(place, spec, options);
  std::vector<float> data(30);
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = static_cast<float>(std::sin(1.7 * static_cast<double>(i)));
  net.SetInput("data", data);
  net.SetInput("label", {0, 1, 2, 0, 1, 2});
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    last = net.Forward(place);
    if (step == 0) first = last;
    net.ZeroParamGrads();
    net.Backward(place);
    for (Param* param : net.params()) {
      std::vector<float> value = param->value.ToHost<float>();
      const std::vector<float> grad = param->grad.ToHost<float>();
      for (size_t i = 0; i < value.size(); ++i) value[i] -= 0.3f * grad[i];
      param->value.FromHost(value);
    }
  }
  EXPECT_LT(last, first / 3);
  EXPECT_NEAR(net.BlobValues("margin")[0], -0.1f, 1e-7);
}

}  // namespace
}  // namespace crema
