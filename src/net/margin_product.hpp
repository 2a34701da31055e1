// Floor 4. An inner product whose own class's score has a margin on the angle: what MarginInnerProduct
// (A-Softmax) and LargeMarginInnerProduct (L-Softmax) have in common.
#pragma once

#include "crema/layer.hpp"

namespace crema {

// psi(theta) = (-1)^k cos(m theta) - 2 k for theta in [k pi / m, (k + 1) pi / m], as a polynomial of
// cos(theta) and of signs that tell k: for m 1, 2, 3, 4. It falls from 1 to 1 - 2 m.
struct AngularMargin {
  int m;
  CREMA_HD static double Sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }
  CREMA_HD double Value(double c) const {
    const double s = Sign(c), c2 = c * c;
    if (m == 2) return 2 * s * c2 - 1;
    if (m == 3) return Third(c) * (4 * c2 - 3) * c + s * (1 + Third(c)) - 2;
    if (m == 4) return Fourth(c) * (8 * c2 * c2 - 8 * c2 + 1) + 2 * s + Fourth(c) - 3;
    return c;
  }
  // d psi / d cos(theta)
  CREMA_HD double Slope(double c) const {
    if (m == 2) return 4 * Sign(c) * c;
    if (m == 3) return Third(c) * (12 * c * c - 3);
    if (m == 4) return Fourth(c) * (32 * c * c - 16) * c;
    return 1;
  }

 private:
  CREMA_HD static double Third(double c) { return Sign(fabs(c) - 0.5); }
  CREMA_HD static double Fourth(double c) { return Sign(c) * Sign(2 * c * c - 1); }
};

// Bottoms: x, whose axes from `axis` on are taken as one, and labels; tops: scores and, where it is asked
// for, lambda. y = x W^T, but the own class's is (lambda y + |x| |w| psi) / (1 + lambda).
class MarginProductLayer : public Layer {
 public:
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 2}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  int64_t MultiplyAdds(const Blobs&, const Blobs&) const override { return samples_ * inputs_ * outputs_; }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override;

 protected:
  virtual const MarginInnerProductParameter& options() const = 0;
  // SphereFace's: the rows of W are brought to length 1 in place by each Forward. What the own class's score
  // gives x is coeff_w w + coeff_x x, and Backward scales the two so that coeff_w^2 + coeff_x^2 = 1; W's
  // gradient is dy^T x, without a margin. Otherwise both gradients are the derivatives.
  virtual bool IsSphereFaces() const = 0;

 private:
  // Of each sample: the cosine with its own class, and the lengths of x and w.
  struct Own {
    const double *cosine, *x_length, *w_length;
  };
  Own own() const;
  AngularMargin margin() const { return {static_cast<int>(options().type()) + 1}; }
  double Lambda(const Context& ctx) const;
  template <class T>
  void Gradients(const Context& ctx, Blob& y, Blob& x, const Blob& label);
  template <class T>
  void WeightGrad(const Context& ctx, const T* dy, const Blob& x, const Blob& label, const double* along_w);

  int64_t samples_ = 0, inputs_ = 0, outputs_ = 0;
  double lambda_ = 0;
  Tensor own_;  // [3, samples]
};

}  // namespace crema
