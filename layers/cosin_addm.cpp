// CosinAddm: the own class's score cos(theta) becomes cos(theta + m), or cos(theta) - m sin(m) where theta +
// m would pass pi; TEST hands the scores through (ArcFace, Deng et al., arXiv 1801.07698, as in
// xialuxi/arcface-caffe). The gradient is the derivative, and 1 where the cosine is 1.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/own_score.hpp"

namespace crema {
namespace {

struct AddedAngle {
  double m, cos_m, sin_m;
  CREMA_HD bool passes_pi(double c) const { return c <= -cos_m; }  // c <= cos(pi - m)
  CREMA_HD double Value(double c) const {
    if (passes_pi(c)) return c - m * sin_m;
    if (c >= 1) return cos_m;  // of a cosine that rounding has made larger than 1 as well
    return c * cos_m - sqrt(1 - c * c) * sin_m;
  }
  CREMA_HD double Slope(double c) const {
    if (passes_pi(c) || c >= 1) return 1;
    return cos_m + sin_m * c / sqrt(1 - c * c);
  }
};

struct CosinAddm final : OwnScoreLayer<AddedAngle> {
  using OwnScoreLayer::OwnScoreLayer;

 protected:
  AddedAngle RuleAt(const Context&) const override {
    const double m = static_cast<double>(spec().cosin_add_m_param().m());
    return {m, std::cos(m), std::sin(m)};
  }
};

CREMA_REGISTER_LAYER(CosinAddm, "cosin_add_m_param");

}  // namespace
}  // namespace crema
