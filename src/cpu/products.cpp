#include "cpu/products.hpp"

namespace crema {

namespace {

using dnnl::memory;

constexpr size_t kMostPlans =
    1024;  // then all are forgotten: sizes that change for ever would fill the memory

// A rows x columns matrix that lies row by row, or, where it is transposed, column by column.
memory::desc MatrixOf(memory::data_type type, bool transposed, int64_t rows, int64_t columns, int64_t row) {
  return {{rows, columns}, type, transposed ? memory::dims{1, row} : memory::dims{row, 1}};
}

}  // namespace

bool OneDnnHas(dnnl::cpu_isa wanted) {
  const int isa = static_cast<int>(dnnl::get_effective_cpu_isa()), bits = static_cast<int>(wanted);
  return (isa & bits) == bits;
}

Bf16Speed OneDnnBf16Speed() {
  return OneDnnHas(dnnl::cpu_isa::avx512_core_amx)    ? Bf16Speed::kTiles
         : OneDnnHas(dnnl::cpu_isa::avx512_core_bf16) ? Bf16Speed::kVectors
                                                      : Bf16Speed::kNone;
}

bool OneDnnProducts::Takes(DType dtype, const GemmShape& shape) const {
  return shape.k > 0 && ((dtype == DType::kF32 && f32_) || (dtype == DType::kBF16 && bf16_));
}

std::shared_ptr<const OneDnnProducts::Plan> OneDnnProducts::PlanFor(DType dtype, const GemmShape& s,
                                                                    float alpha, float beta) {
  const Key key{dtype,     s.transpose_a, s.transpose_b, s.m,        s.n,   s.k,
                RowOfA(s), RowOfB(s),     RowOfC(s),     s.narrow_c, alpha, beta};
  const std::lock_guard lock(mutex_);
  const auto found = plans_.find(key);
  if (found != plans_.end()) return found->second;
  if (plans_.size() >= kMostPlans) plans_.clear();
  return plans_.emplace(key, NewPlan(dtype, s, alpha, beta)).first->second;
}

std::shared_ptr<const OneDnnProducts::Plan> OneDnnProducts::NewPlan(DType dtype, const GemmShape& s,
                                                                    float alpha, float beta) const {
  const auto f32 = memory::data_type::f32;
  const auto type = dtype == DType::kBF16 ? memory::data_type::bf16 : f32;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (alpha != 1) attributes.set_output_scales(0, {alpha});
  if (beta != 0) {
    dnnl::post_ops add;
    add.append_sum(beta);
    attributes.set_post_ops(add);
  }
  auto plan = std::make_shared<Plan>();
  plan->a = MatrixOf(type, s.transpose_a, s.m, s.k, RowOfA(s));
  plan->b = MatrixOf(type, s.transpose_b, s.k, s.n, RowOfB(s));
  plan->c = MatrixOf(s.narrow_c ? type : f32, false, s.m, s.n, RowOfC(s));
  try {
    const dnnl::matmul::primitive_desc made({plan->a, plan->b, plan->c}, attributes, engine_);
    plan->workspace = made.scratchpad_desc();
    plan->product = dnnl::matmul(made);
  } catch (const dnnl::error& error) {
    Fail("oneDNN cannot multiply matrices of ", NameOf(dtype), ", ", s.m, " x ", s.k, " and ", s.k, " x ",
         s.n, ": ", error.what());
  }
  return plan;
}

void* OneDnnProducts::WorkspaceOfThread(size_t bytes) {
  constexpr size_t kAlignment = 64;
  std::vector<char>* room;
  {
    const std::lock_guard lock(mutex_);
    room = &workspaces_[std::this_thread::get_id()];
  }
  if (room->size() < bytes + kAlignment) room->resize(bytes + kAlignment);
  const size_t beyond = reinterpret_cast<uintptr_t>(room->data()) % kAlignment;
  return room->data() + (beyond == 0 ? 0 : kAlignment - beyond);
}

void OneDnnProducts::Gemm(DType dtype, const GemmShape& shape, double alpha, const void* a, const void* b,
                          double beta, void* c) {
  const auto plan = PlanFor(dtype, shape, static_cast<float>(alpha), static_cast<float>(beta));
  dnnl::stream stream(engine_);
  void* workspace = WorkspaceOfThread(plan->workspace.get_size());
  // oneDNN's handles are not const.
  plan->product.execute(stream, {{DNNL_ARG_SRC, memory(plan->a, engine_, const_cast<void*>(a))},
                                 {DNNL_ARG_WEIGHTS, memory(plan->b, engine_, const_cast<void*>(b))},
                                 {DNNL_ARG_DST, memory(plan->c, engine_, c)},
                                 {DNNL_ARG_SCRATCHPAD, memory(plan->workspace, engine_, workspace)}});
  stream.wait();
}

}  // namespace crema
