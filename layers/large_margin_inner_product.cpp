// LargeMarginInnerProduct: L-Softmax: y = x w^T; the own class's is (lambda |x| |w| cos(theta) + |x| |w|
// psi(theta)) / (1 + lambda), psi(theta) = (-1)^k cos(m theta) - 2 k (Liu et al., arXiv 1612.02295). A second
// top holds lambda.
#include "net/margin_product.hpp"

namespace crema {
namespace {

struct LargeMarginInnerProduct final : MarginProductLayer {
  using MarginProductLayer::MarginProductLayer;

 protected:
  const MarginInnerProductParameter& options() const override {
    return spec().largemargin_inner_product_param();
  }
  bool IsSphereFaces() const override { return false; }
};

CREMA_REGISTER_LAYER(LargeMarginInnerProduct, "largemargin_inner_product_param");

}  // namespace
}  // namespace crema
