// MarginInnerProduct: A-Softmax: y = x w^T with the rows w of length 1; the own class's is (lambda |x|
// cos(theta) + |x| psi(theta)) / (1 + lambda), psi(theta) = (-1)^k cos(m theta) - 2 k (SphereFace, Liu et
// al., arXiv 1704.08063). As in wy1iu/sphereface, the weights are divided by their lengths in place in each
// Forward, their gradient is dy^T x without the margin, and the margin's part of the bottom's gradient, a w +
// b x, is divided by sqrt(a^2 + b^2): neither is the derivative. A second top holds lambda.
#include "net/margin_product.hpp"

namespace crema {
namespace {

struct MarginInnerProduct final : MarginProductLayer {
  using MarginProductLayer::MarginProductLayer;

 protected:
  const MarginInnerProductParameter& options() const override { return spec().margin_inner_product_param(); }
  bool IsSphereFaces() const override { return true; }
};

CREMA_REGISTER_LAYER(MarginInnerProduct, "margin_inner_product_param");

}  // namespace
}  // namespace crema
