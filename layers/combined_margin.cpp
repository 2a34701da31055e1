// CombinedMargin: the own class's score cos(theta) becomes cos(m1 theta + m2) - m3, in TRAIN and in TEST; a
// sample labelled -1 keeps its scores (ArcFace, Deng et al., arXiv 1801.07698, equation 4, as in
// xialuxi/arcface-caffe). Past pi the cosine rises again. The gradient is the derivative, and 1 where the
// cosine is 1 or -1.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/own_score.hpp"

namespace crema {
namespace {

struct CombinedAngle {
  double m1, m2, m3;
  CREMA_HD double Value(double c) const { return cos(Angle(c)) - m3; }
  CREMA_HD double Slope(double c) const {
    return c >= 1 || c <= -1 ? 1 : m1 * sin(Angle(c)) / sqrt(1 - c * c);
  }
  CREMA_HD double Angle(double c) const { return m1 * acos(c > 1 ? 1 : c < -1 ? -1 : c) + m2; }
};

struct CombinedMargin final : OwnScoreLayer<CombinedAngle> {
  using OwnScoreLayer::OwnScoreLayer;

 protected:
  CombinedAngle RuleAt(const Context&) const override {
    const CombinedMarginParameter& options = spec().combined_margin_param();
    return {options.m1(), options.m2(), options.m3()};
  }
  bool Applies() const override { return true; }
  std::optional<int64_t> Unlabelled() const override { return -1; }
};

CREMA_REGISTER_LAYER(CombinedMargin, "combined_margin_param");

}  // namespace
}  // namespace crema
