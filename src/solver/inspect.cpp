// Looking into a running net: debug_info and the profile.
#include <glog/logging.h>

#include <cmath>
#include <iomanip>

#include "solver/measure.hpp"
#include "solver/report.hpp"

namespace crema {
namespace {

float MeanMagnitude(const Context& ctx, const Tensor& x) {
  if (x.empty() || x.count() == 0) return 0;
  return static_cast<float>(MeasureOf(ctx, Measure::kMagnitude, x) / static_cast<double>(x.count()));
}

bool IsReal(const Tensor& x) {
  return x.dtype() == DType::kF32 || x.dtype() == DType::kF64;
}

void LogForward(const Context& ctx, const Net::Step& step) {
  for (const Blob* top : step.top) {
    if (!IsReal(top->data())) continue;
    LOG(INFO) << "    [Forward] Layer " << step.layer->name() << ", top blob " << top->name()
              << " data: " << MeanMagnitude(ctx, top->data());
  }
  for (size_t i = 0; i < step.layer->params().size(); ++i)
    LOG(INFO) << "    [Forward] Layer " << step.layer->name() << ", param blob " << i
              << " data: " << MeanMagnitude(ctx, step.layer->param(i).value);
}

void LogBackward(const Context& ctx, const Net::Step& step) {
  for (const Blob* bottom : step.bottom) {
    if (!bottom->needs_grad()) continue;
    LOG(INFO) << "    [Backward] Layer " << step.layer->name() << ", bottom blob " << bottom->name()
              << " diff: " << MeanMagnitude(ctx, bottom->grad());
  }
  for (size_t i = 0; i < step.layer->params().size(); ++i) {
    const Param& param = step.layer->param(i);
    if (!param.needs_grad()) continue;
    LOG(INFO) << "    [Backward] Layer " << step.layer->name() << ", param blob " << i
              << " diff: " << MeanMagnitude(ctx, param.row_sparse ? param.row_grad : param.grad);
  }
}

}  // namespace

std::function<void(const Net::Step&, bool, bool)> DebugObserver(const Context& ctx) {
  return [ctx](const Net::Step& step, bool forward, bool begin) {
    if (begin) return;
    forward ? LogForward(ctx, step) : LogBackward(ctx, step);
  };
}

void LogAllParams(const Context& ctx, const Net& net) {
  double data1 = 0, diff1 = 0, data2 = 0, diff2 = 0;
  for (const Param* param : net.params()) {
    data1 += MeasureOf(ctx, Measure::kMagnitude, *param);
    data2 += MeasureOf(ctx, Measure::kSquares, *param);
    const Tensor& grad = param->row_sparse ? param->row_grad : param->grad;
    if (grad.empty()) continue;
    diff1 += MeasureOf(ctx, Measure::kMagnitude, grad);
    diff2 += MeasureOf(ctx, Measure::kSquares, grad);
  }
  LOG(INFO) << "    [Backward] All net params (data, diff): L1 norm = (" << static_cast<float>(data1) << ", "
            << static_cast<float>(diff1) << "); L2 norm = (" << static_cast<float>(std::sqrt(data2)) << ", "
            << static_cast<float>(std::sqrt(diff2)) << ")";
}

void Profile::Observe(const Net& net, const Net::Step& step, bool forward, bool begin) {
  device_->Synchronize();
  const auto now = std::chrono::steady_clock::now();
  if (begin) {
    begin_ = now;
    return;
  }
  steps_.resize(net.steps().size());
  Times& times = steps_[static_cast<size_t>(&step - net.steps().data())];
  (forward ? times.forward : times.backward) += std::chrono::duration<double>(now - begin_).count();
}

void Profile::Add(const std::string& what, double seconds) {
  for (auto& [name, sum] : others_) {
    if (name != what) continue;
    sum += seconds;
    return;
  }
  others_.emplace_back(what, seconds);
}

void Profile::Log(const Net& net, int64_t passes, int64_t iterations) const {
  if (passes == 0 || iterations == 0) return;
  double forward = 0, backward = 0;
  LOG(INFO) << "Average time per layer: ";
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Layer& layer = *net.steps()[i].layer;
    const double ms_forward = 1e3 * steps_[i].forward / static_cast<double>(passes);
    const double ms_backward = 1e3 * steps_[i].backward / static_cast<double>(passes);
    LOG(INFO) << std::setw(10) << layer.name() << "\tforward: " << ms_forward << " ms.";
    LOG(INFO) << std::setw(10) << layer.name() << "\tbackward: " << ms_backward << " ms.";
    forward += ms_forward;
    backward += ms_backward;
  }
  LOG(INFO) << "Average Forward pass: " << forward << " ms.";
  LOG(INFO) << "Average Backward pass: " << backward << " ms.";
  LOG(INFO) << "Average Forward-Backward: " << forward + backward << " ms.";
  for (const auto& [what, seconds] : others_)
    LOG(INFO) << "Average " << what << ": " << 1e3 * seconds / static_cast<double>(iterations) << " ms.";
}

}  // namespace crema
