// A test tool. The arithmetic of cuDNN's stand-in's convolutions, forward and back, by one thread: products
// of matrices by OpenBLAS, and loops for groups of few channels.
#pragma once

#include <cblas.h>

#include <algorithm>
#include <vector>

#include "cudnn.hpp"
#include "tf32.hpp"

namespace rehearsal::cudnn {

enum class Direction { kForward, kData, kFilter };

// A convolution by the names of cuDNN's documentation: x is n c h w, filters are k c/groups r s, y is n k p
// q.
struct Problem {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  bool last = false;     // channels last, in all three
  bool rounded = false;  // the operands lose bits, as in TF32
  int64_t n = 0, c = 0, h = 0, w = 0, k = 0, r = 0, s = 0, p = 0, q = 0;
  int64_t pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0, dilation_h = 0, dilation_w = 0;
  int64_t groups = 1;

  int64_t inputs() const { return c / groups; }
  int64_t outputs() const { return k / groups; }
  int64_t taps() const { return r * s; }
  int64_t places() const { return p * q; }
  int64_t x_elements() const { return n * c * h * w; }
  int64_t w_elements() const { return k * inputs() * taps(); }
  int64_t y_elements() const { return n * k * places(); }
};

inline void Product(CBLAS_ORDER order, CBLAS_TRANSPOSE turn_a, CBLAS_TRANSPOSE turn_b, int64_t m, int64_t n,
                    int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c,
                    int64_t ldc) {
  cblas_sgemm(order, turn_a, turn_b, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1, a,
              static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}
inline void Product(CBLAS_ORDER order, CBLAS_TRANSPOSE turn_a, CBLAS_TRANSPOSE turn_b, int64_t m, int64_t n,
                    int64_t k, const double* a, int64_t lda, const double* b, int64_t ldb, double beta,
                    double* c, int64_t ldc) {
  cblas_dgemm(order, turn_a, turn_b, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1, a,
              static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

// One step of a convolution, in a direction: one of the three takes up the product of the other two.
template <Direction D, class X, class W, class Y>
inline void Step(X& x, W& w, Y& y) {
  if constexpr (D == Direction::kForward) y += x * w;
  if constexpr (D == Direction::kData) x += y * w;
  if constexpr (D == Direction::kFilter) w += static_cast<W>(x) * static_cast<W>(y);
}

// Convolutions in float or double (C), of tensors without gaps. The results are to hold zeros before.
template <class C>
class Convolver {
 public:
  explicit Convolver(const Problem& problem) : d_(problem), columns_per_place_(d_.inputs() * d_.taps()) {
    const int64_t taps = d_.taps(), places = d_.places();
    pixel_.resize(static_cast<size_t>(taps * places));
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t place = 0; place < places; ++place) {
        const int64_t row = place / d_.q * d_.stride_h - d_.pad_h + tap / d_.s * d_.dilation_h;
        const int64_t column = place % d_.q * d_.stride_w - d_.pad_w + tap % d_.s * d_.dilation_w;
        const bool inside = row >= 0 && row < d_.h && column >= 0 && column < d_.w;
        pixel_[static_cast<size_t>(tap * places + place)] = inside ? row * d_.w + column : kOutside;
      }
    }
    plain_ = taps == 1 && d_.pad_h == 0 && d_.pad_w == 0 && d_.stride_h == 1 && d_.stride_w == 1;
    if (!plain_) columns_.resize(static_cast<size_t>(columns_per_place_ * places));
  }

  template <Direction D, class X, class W, class Y>
  void Run(X* x, W* w, Y* y) {
    // A product of a matrix for each of many small groups would spend its time on calls.
    if (d_.groups > 1 && d_.inputs() <= 2) return Direct<D>(x, w, y);
    for (int64_t image = 0; image < d_.n; ++image) {
      for (int64_t group = 0; group < d_.groups; ++group) {
        const int64_t channel = group * d_.inputs(), output = group * d_.outputs();
        Multiply<D>(x + image * d_.c * d_.h * d_.w + channel * (d_.last ? 1 : d_.h * d_.w),
                    w + output * columns_per_place_,
                    y + image * d_.k * d_.places() + output * (d_.last ? 1 : d_.places()));
      }
    }
  }

 private:
  static constexpr int64_t kOutside = -1;

  int64_t Pixel(int64_t tap, int64_t place) const {
    return pixel_[static_cast<size_t>(tap * d_.places() + place)];
  }

  // One group of an image. With channels last, columns and y are matrices of a row for each place; in planes
  // they are the same matrices stored column by column, and the filters turn over.
  template <Direction D, class X, class W, class Y>
  void Multiply(X* x, W* w, Y* y) {
    const CBLAS_ORDER order = d_.last ? CblasRowMajor : CblasColMajor;
    const CBLAS_TRANSPOSE as_outputs_by_columns = d_.last ? CblasNoTrans : CblasTrans;
    const CBLAS_TRANSPOSE as_columns_by_outputs = d_.last ? CblasTrans : CblasNoTrans;
    const int64_t places = d_.places(), outputs = d_.outputs(), columns = columns_per_place_;
    const int64_t ld_y = d_.last ? d_.k : places;
    const int64_t ld_columns = plain_ ? (d_.last ? d_.c : places) : d_.last ? columns : places;
    X* matrix = x;
    if (!plain_) matrix = columns_.data();
    if constexpr (D != Direction::kData) {
      if (!plain_) Gather(x);
    }
    if constexpr (D == Direction::kForward) {
      Product(order, CblasNoTrans, as_columns_by_outputs, places, outputs, columns, matrix, ld_columns, w,
              columns, C{0}, y, ld_y);
    } else if constexpr (D == Direction::kData) {
      Product(order, CblasNoTrans, as_outputs_by_columns, places, columns, outputs, y, ld_y, w, columns, C{0},
              matrix, ld_columns);
      if (!plain_) Scatter(x);
    } else if (d_.last) {
      Product(order, CblasTrans, CblasNoTrans, outputs, columns, places, y, ld_y, matrix, ld_columns, C{1}, w,
              columns);
    } else {
      Product(order, CblasTrans, CblasNoTrans, columns, outputs, places, matrix, ld_columns, y, ld_y, C{1}, w,
              columns);
    }
  }

  // The pixels of x (an image's and a group's start) that each place sees, to columns_.
  void Gather(const C* x) {
    C* to = columns_.data();
    const int64_t taps = d_.taps(), places = d_.places(), inputs = d_.inputs();
    if (d_.last) {
      for (int64_t place = 0; place < places; ++place) {
        for (int64_t tap = 0; tap < taps; ++tap, to += inputs) {
          const int64_t pixel = Pixel(tap, place);
          if (pixel == kOutside)
            std::fill_n(to, inputs, C{0});
          else
            std::copy_n(x + pixel * d_.c, inputs, to);
        }
      }
    } else {
      for (int64_t input = 0; input < inputs; ++input) {
        const C* plane = x + input * d_.h * d_.w;
        for (const int64_t pixel : pixel_) *to++ = pixel == kOutside ? C{0} : plane[pixel];
      }
    }
  }
  // The way back: columns_ added to x.
  void Scatter(C* x) const {
    const C* from = columns_.data();
    const int64_t taps = d_.taps(), places = d_.places(), inputs = d_.inputs();
    if (d_.last) {
      for (int64_t place = 0; place < places; ++place) {
        for (int64_t tap = 0; tap < taps; ++tap, from += inputs) {
          const int64_t pixel = Pixel(tap, place);
          if (pixel == kOutside) continue;
          for (int64_t input = 0; input < inputs; ++input) x[pixel * d_.c + input] += from[input];
        }
      }
    } else {
      for (int64_t input = 0; input < inputs; ++input) {
        C* plane = x + input * d_.h * d_.w;
        for (const int64_t pixel : pixel_) {
          if (pixel != kOutside) plane[pixel] += *from;
          ++from;
        }
      }
    }
  }

  // All images, element by element. Filters with all outputs of a tap side by side, as an image with channels
  // last has them; their gradients in double, the sums being long.
  template <Direction D, class X, class W, class Y>
  void Direct(X* x, W* w, Y* y) {
    using Wide = std::conditional_t<D == Direction::kFilter, double, C>;
    std::vector<Wide> turned(static_cast<size_t>(d_.w_elements()));
    const auto at = [&](int64_t output, int64_t column) {
      return static_cast<size_t>(column * d_.k + output);
    };
    for (int64_t output = 0; output < d_.k; ++output)
      for (int64_t column = 0; column < columns_per_place_; ++column)
        turned[at(output, column)] = w[output * columns_per_place_ + column];
    for (int64_t image = 0; image < d_.n; ++image) {
      X* x_image = x + image * d_.c * d_.h * d_.w;
      Y* y_image = y + image * d_.k * d_.places();
      if (d_.last)
        DirectLast<D>(x_image, turned.data(), y_image);
      else
        DirectPlanes<D>(x_image, turned.data(), y_image);
    }
    if constexpr (D == Direction::kFilter) {
      for (int64_t output = 0; output < d_.k; ++output)
        for (int64_t column = 0; column < columns_per_place_; ++column)
          w[output * columns_per_place_ + column] = static_cast<C>(turned[at(output, column)]);
    }
  }

  template <Direction D, class X, class W, class Y>
  void DirectLast(X* x, W* w, Y* y) const {
    const int64_t inputs = d_.inputs(), outputs = d_.outputs();
    for (int64_t place = 0; place < d_.places(); ++place) {
      Y* y_row = y + place * d_.k;
      for (int64_t tap = 0; tap < d_.taps(); ++tap) {
        const int64_t pixel = Pixel(tap, place);
        if (pixel == kOutside) continue;
        for (int64_t input = 0; input < inputs; ++input) {
          X* x_row = x + pixel * d_.c + input;
          W* w_row = w + (tap * inputs + input) * d_.k;
          if (inputs == 1 && outputs == 1) {
#pragma GCC ivdep
            for (int64_t k = 0; k < d_.k; ++k) Step<D>(x_row[k], w_row[k], y_row[k]);
          } else {
            for (int64_t k = 0; k < d_.k; ++k) Step<D>(x_row[k / outputs * inputs], w_row[k], y_row[k]);
          }
        }
      }
    }
  }

  template <Direction D, class X, class W, class Y>
  void DirectPlanes(X* x, W* w, Y* y) const {
    const int64_t inputs = d_.inputs(), outputs = d_.outputs(), places = d_.places(), taps = d_.taps();
    for (int64_t k = 0; k < d_.k; ++k) {
      for (int64_t input = 0; input < inputs; ++input) {
        X* plane = x + (k / outputs * inputs + input) * d_.h * d_.w;
        for (int64_t tap = 0; tap < taps; ++tap) {
          std::remove_const_t<W> weight = w[(input * taps + tap) * d_.k + k];
          for (int64_t place = 0; place < places; ++place) {
            const int64_t pixel = Pixel(tap, place);
            if (pixel != kOutside) Step<D>(plane[pixel], weight, y[k * places + place]);
          }
          if constexpr (D == Direction::kFilter) w[(input * taps + tap) * d_.k + k] = weight;
        }
      }
    }
  }

  Problem d_;
  int64_t columns_per_place_;
  std::vector<int64_t> pixel_;  // of x, for each tap and place of y
  std::vector<C> columns_;      // the pixels that each place sees, of one image and group
  bool plain_ = false;          // x is such a matrix as it is
};

// A tensor as numbers to reckon with: where it is, if it holds such numbers, else a copy.
template <class T>
class Numbers {
 public:
  Numbers(const void* from, int64_t count, bool rounded) : data_(nullptr) {
    const T* elements = static_cast<const T*>(from);
    if constexpr (std::is_same_v<T, Sum<T>>) {
      data_ = elements;
      if (!rounded || std::is_same_v<T, double>) return;
    }
    copy_.resize(static_cast<size_t>(count));
    std::transform(elements, elements + count, copy_.begin(), [&](const T& element) {
      const auto number = static_cast<Sum<T>>(element);
      return std::is_same_v<T, float> ? static_cast<Sum<T>>(ToTf32(static_cast<float>(number))) : number;
    });
    data_ = copy_.data();
  }
  Numbers(const Numbers&) = delete;
  const Sum<T>* data() const { return data_; }

 private:
  const Sum<T>* data_;
  std::vector<Sum<T>> copy_;
};

template <class T>
void Compute(const Problem& problem, Direction direction, const void* first, const void* second, void* result,
             double alpha, double beta) {
  const int64_t x = problem.x_elements(), w = problem.w_elements(), y = problem.y_elements();
  const Numbers<T> a(first, direction == Direction::kData ? w : x, problem.rounded);
  const Numbers<T> b(second, direction == Direction::kForward ? w : y, problem.rounded);
  std::vector<Sum<T>> sums(static_cast<size_t>(direction == Direction::kForward ? y
                                               : direction == Direction::kData  ? x
                                                                                : w));
  Convolver<Sum<T>> convolver(problem);
  switch (direction) {
    case Direction::kForward:
      convolver.template Run<Direction::kForward>(a.data(), b.data(), sums.data());
      break;
    case Direction::kData:
      convolver.template Run<Direction::kData>(sums.data(), a.data(), b.data());
      break;
    case Direction::kFilter:
      convolver.template Run<Direction::kFilter>(a.data(), sums.data(), b.data());
      break;
  }
  T* to = static_cast<T*>(result);
  for (size_t k = 0; k < sums.size(); ++k)
    Blend(to + k, sums[k], static_cast<Sum<T>>(alpha), static_cast<Sum<T>>(beta));
}

}  // namespace rehearsal::cudnn
