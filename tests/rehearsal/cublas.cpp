// A test tool. cuBLAS, as far as Crema calls it, over the imaginary GPUs of machine.hpp, by OpenBLAS.
#include <cblas.h>
#include <cublas_v2.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cudnn.hpp"
#include "objects.hpp"
#include "tf32.hpp"

struct cublasContext : rehearsal::LibraryHandle {
  bool tf32 = false;
};

namespace {

using rehearsal::Fault;
using rehearsal::StreamOf;

// A matrix stored column by column, `ld` elements apart.
struct Stored {
  const char* name;
  const void* data;
  int64_t rows, columns, ld;  // in elements
  int64_t element;            // bytes

  int64_t bytes() const { return rows == 0 || columns == 0 ? 0 : (ld * (columns - 1) + rows) * element; }
};

CBLAS_TRANSPOSE Turned(cublasOperation_t operation) {
  return operation == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

// The numbers of a matrix: as they are or, for TF32, rounded.
template <class T>
class Factor {
 public:
  Factor(const T* data, const Stored& matrix, bool tf32) : data_(data) {
    if (!tf32 || !std::is_same_v<T, float> || matrix.bytes() == 0) return;
    copy_.assign(data, data + matrix.bytes() / matrix.element);
    for (T& number : copy_) number = static_cast<T>(rehearsal::ToTf32(static_cast<float>(number)));
    data_ = copy_.data();
  }
  Factor(const Factor&) = delete;
  const T* data() const { return data_; }

 private:
  const T* data_;
  std::vector<T> copy_;
};

// What a call with matrices of these layouts checks; what cuBLAS would refuse is answered with its status.
cublasStatus_t CheckMatrices(const char* call, cudaStream_t stream, cublasOperation_t op_a,
                             cublasOperation_t op_b, const Stored& a, const Stored& b, const Stored& c) {
  for (cublasOperation_t operation : {op_a, op_b}) {
    if (operation != CUBLAS_OP_N && operation != CUBLAS_OP_T) return CUBLAS_STATUS_INVALID_VALUE;
  }
  for (const Stored& matrix : {a, b, c}) {
    if (matrix.rows < 0 || matrix.columns < 0 || matrix.ld < std::max<int64_t>(1, matrix.rows))
      return CUBLAS_STATUS_INVALID_VALUE;
    rehearsal::CheckAligned(call, matrix.name, matrix.data, matrix.element);
    rehearsal::CheckOnGpu(stream, call, matrix.name, matrix.data, matrix.bytes());
  }
  for (const Stored& matrix : {a, b}) {
    if (rehearsal::Overlap(matrix.data, matrix.bytes(), c.data, c.bytes()))
      Fault(std::string(call) + ": C overlaps " + matrix.name);
  }
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t Gemm(const char* call, cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                    int64_t m, int64_t n, int64_t k, const T* alpha, const T* a, int64_t lda, const T* b,
                    int64_t ldb, const T* beta, T* c, int64_t ldc) {
  const cudaStream_t stream = StreamOf(handle, call);
  const Stored stored_a{"A", a, op_a == CUBLAS_OP_N ? m : k, op_a == CUBLAS_OP_N ? k : m, lda, sizeof(T)};
  const Stored stored_b{"B", b, op_b == CUBLAS_OP_N ? k : n, op_b == CUBLAS_OP_N ? n : k, ldb, sizeof(T)};
  const Stored stored_c{"C", c, m, n, ldc, sizeof(T)};
  const cublasStatus_t status = CheckMatrices(call, stream, op_a, op_b, stored_a, stored_b, stored_c);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  rehearsal::CheckOnHost(call, "alpha", alpha);
  rehearsal::CheckOnHost(call, "beta", beta);
  rehearsal::Enqueue(stream, call, [=, factor = *alpha, old = *beta, tf32 = handle->tf32] {
    const Factor<T> left(a, stored_a, tf32), right(b, stored_b, tf32);
    const auto size = [](int64_t x) { return static_cast<int>(x); };
    if constexpr (std::is_same_v<T, float>) {
      cblas_sgemm(CblasColMajor, Turned(op_a), Turned(op_b), size(m), size(n), size(k), factor, left.data(),
                  size(lda), right.data(), size(ldb), old, c, size(ldc));
    } else {
      cblas_dgemm(CblasColMajor, Turned(op_a), Turned(op_b), size(m), size(n), size(k), factor, a, size(lda),
                  b, size(ldb), old, c, size(ldc));
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

// The numbers of a matrix of 16 bits, gaps between its columns included.
template <class Half>
std::vector<float> Widened(const Stored& matrix) {
  const Half* numbers = static_cast<const Half*>(matrix.data);
  std::vector<float> wide(static_cast<size_t>(matrix.bytes() / matrix.element));
  for (size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<float>(numbers[i]);
  return wide;
}

// A product of matrices of 16 bits with sums of float, C being of either type.
template <class Half>
void MultiplyHalves(cublasOperation_t op_a, cublasOperation_t op_b, int64_t k, float alpha, const Stored& a,
                    const Stored& b, float beta, const Stored& c) {
  const std::vector<float> left = Widened<Half>(a), right = Widened<Half>(b);
  const auto size = [](int64_t x) { return static_cast<int>(x); };
  const auto multiply = [&](float* to) {
    cblas_sgemm(CblasColMajor, Turned(op_a), Turned(op_b), size(c.rows), size(c.columns), size(k), alpha,
                left.data(), size(a.ld), right.data(), size(b.ld), beta, to, size(c.ld));
  };
  if (c.element == sizeof(float)) return multiply(static_cast<float*>(const_cast<void*>(c.data)));
  std::vector<float> wide = Widened<Half>(c);
  multiply(wide.data());
  Half* to = static_cast<Half*>(const_cast<void*>(c.data));
  for (int64_t column = 0; column < c.columns; ++column) {
    for (int64_t i = column * c.ld; i < column * c.ld + c.rows; ++i)
      to[i] = static_cast<Half>(wide[static_cast<size_t>(i)]);
  }
}

}  // namespace

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = rehearsal::Make<cublasContext>();
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  StreamOf(handle, "cublasDestroy");
  rehearsal::Destroy(handle, "cublasDestroy", "the handle");
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  rehearsal::SetStream(handle, stream, "cublasSetStream");
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  StreamOf(handle, "cublasSetMathMode");
  // Sums are of 32 bits here whether or not shorter ones are forbidden.
  const int kind = mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  if (kind != CUBLAS_DEFAULT_MATH && kind != CUBLAS_TF32_TENSOR_OP_MATH)
    Fault("cublasSetMathMode: a mode that the rehearsal does not know");
  handle->tf32 = kind == CUBLAS_TF32_TENSOR_OP_MATH;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetProperty(libraryPropertyType type, int* value) {
  *value = type == MAJOR_VERSION   ? CUBLAS_VER_MAJOR
           : type == MINOR_VERSION ? CUBLAS_VER_MINOR
                                   : CUBLAS_VER_PATCH;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "an unsupported value was passed"
                                               : "an error of the rehearsal";
}

cublasStatus_t cublasSgemm_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                              int64_t m, int64_t n, int64_t k, const float* alpha, const float* a,
                              int64_t lda, const float* b, int64_t ldb, const float* beta, float* c,
                              int64_t ldc) {
  return Gemm("cublasSgemm", handle, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
cublasStatus_t cublasDgemm_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                              int64_t m, int64_t n, int64_t k, const double* alpha, const double* a,
                              int64_t lda, const double* b, int64_t ldb, const double* beta, double* c,
                              int64_t ldc) {
  return Gemm("cublasDgemm", handle, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

// The combinations that Crema uses: A and B of one type of 16 bits, C of the same or float, sums of float.
cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                               int64_t m, int64_t n, int64_t k, const void* alpha, const void* a,
                               cudaDataType a_type, int64_t lda, const void* b, cudaDataType b_type,
                               int64_t ldb, const void* beta, void* c, cudaDataType c_type, int64_t ldc,
                               cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  const char* call = "cublasGemmEx";
  const cudaStream_t stream = StreamOf(handle, call);
  const bool halves = a_type == CUDA_R_16F || a_type == CUDA_R_16BF;
  if (!halves || b_type != a_type || (c_type != a_type && c_type != CUDA_R_32F) ||
      compute != CUBLAS_COMPUTE_32F || algorithm != CUBLAS_GEMM_DEFAULT)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  const Stored stored_a{"A", a, op_a == CUBLAS_OP_N ? m : k, op_a == CUBLAS_OP_N ? k : m, lda, 2};
  const Stored stored_b{"B", b, op_b == CUBLAS_OP_N ? k : n, op_b == CUBLAS_OP_N ? n : k, ldb, 2};
  const Stored stored_c{"C", c, m, n, ldc, c_type == CUDA_R_32F ? 4 : 2};
  const cublasStatus_t status = CheckMatrices(call, stream, op_a, op_b, stored_a, stored_b, stored_c);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  rehearsal::CheckOnHost(call, "alpha", alpha);
  rehearsal::CheckOnHost(call, "beta", beta);
  const float factor = *static_cast<const float*>(alpha), old = *static_cast<const float*>(beta);
  rehearsal::Enqueue(stream, call, [=] {
    if (a_type == CUDA_R_16BF) {
      MultiplyHalves<rehearsal::cudnn::BFloat16>(op_a, op_b, k, factor, stored_a, stored_b, old, stored_c);
    } else {
      MultiplyHalves<_Float16>(op_a, op_b, k, factor, stored_a, stored_b, old, stored_c);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
