#include "cpu/widened.hpp"

#include "crema/float16.hpp"

namespace crema {

std::unique_ptr<Convolution> NewCpuConvolution(const ConvolutionSpec& spec, int64_t block);

namespace {

// Elements that a matrix spans whose rows lie `row` apart.
int64_t Span(int64_t rows, int64_t columns, int64_t row) {
  return (rows - 1) * row + columns;
}

template <class From, class To>
void CastAll(const From* from, int64_t count, To* to) {
#pragma omp parallel for simd schedule(static) if (count > 1 << 14)
  for (int64_t i = 0; i < count; ++i) Store(static_cast<float>(from[i]), to + i);
}

Tensor Widened(Device& device, DType dtype, const void* from, Shape shape, int64_t block = 1) {
  Tensor wide(device, DType::kF32, std::move(shape), block);
  For16Bits(dtype,
            [&]<class S>() { CastAll(static_cast<const S*>(from), wide.count(), wide.data<float>()); });
  return wide;
}

Tensor Widened(const Tensor& narrow) {
  return Widened(narrow.device(), narrow.dtype(), narrow.raw(), narrow.shape(), narrow.block());
}

void Narrow(const Tensor& wide, Tensor* to) {
  For16Bits(to->dtype(),
            [&]<class S>() { CastAll(wide.data<float>(), wide.count(), static_cast<S*>(to->raw())); });
}

class WidenedConvolution final : public Convolution {
 public:
  WidenedConvolution(const ConvolutionSpec& spec, int64_t block) : s_(spec) {
    ConvolutionSpec wide = spec;
    wide.dtype = DType::kF32;
    wide_ = NewCpuConvolution(wide, block);
  }

  void Forward(Scratch& scratch, const Tensor& x, const Tensor& w, const Tensor*, Tensor* y) override {
    Tensor wide(y->device(), DType::kF32, y->shape(), y->block());
    wide_->Forward(scratch, Widened(x), Widened(w), nullptr, &wide);
    Narrow(wide, y);
  }
  void BackwardData(Scratch& scratch, const Tensor& dy, const Tensor& w, Tensor* dx) override {
    Tensor wide(dx->device(), DType::kF32, dx->shape(), dx->block());
    wide_->BackwardData(scratch, Widened(dy), Widened(w), &wide);
    Narrow(wide, dx);
  }
  void BackwardWeights(Scratch& scratch, const Tensor& x, const Tensor& dy, Tensor* dw, Tensor*) override {
    wide_->BackwardWeights(scratch, Widened(x), Widened(dy), dw, nullptr);
  }
  int64_t WorkspaceBytes(bool data, bool weights) override {
    const int64_t x = s_.batch * s_.channels * s_.height * s_.width;
    const int64_t y = s_.batch * s_.outputs * s_.out_height() * s_.out_width();
    const int64_t w = s_.outputs * s_.channels / s_.groups * s_.kernel_h * s_.kernel_w;
    return (x + y + w) * SizeOf(DType::kF32) + wide_->WorkspaceBytes(data, weights);
  }

 private:
  ConvolutionSpec s_;
  std::unique_ptr<Convolution> wide_;
};

}  // namespace

void WidenedGemm(Device& device, DType dtype, const GemmShape& s, double alpha, const void* a, const void* b,
                 double beta, void* c) {
  const int64_t a_span = s.transpose_a ? Span(s.k, s.m, RowOfA(s)) : Span(s.m, s.k, RowOfA(s));
  const int64_t b_span = s.transpose_b ? Span(s.n, s.k, RowOfB(s)) : Span(s.k, s.n, RowOfB(s));
  const Tensor wide_a = Widened(device, dtype, a, {a_span}), wide_b = Widened(device, dtype, b, {b_span});
  GemmShape wide = s;
  wide.narrow_c = false;
  if (!s.narrow_c) return device.Gemm(DType::kF32, wide, alpha, wide_a.raw(), wide_b.raw(), beta, c);
  Tensor wide_c = Widened(device, dtype, c, {Span(s.m, s.n, RowOfC(s))});
  device.Gemm(DType::kF32, wide, alpha, wide_a.raw(), wide_b.raw(), beta, wide_c.raw());
  For16Bits(dtype, [&]<class S>() { CastAll(wide_c.data<float>(), wide_c.count(), static_cast<S*>(c)); });
}

std::unique_ptr<Convolution> NewWidenedConvolution(const ConvolutionSpec& spec, int64_t block) {
  return std::make_unique<WidenedConvolution>(spec, block);
}

}  // namespace crema
