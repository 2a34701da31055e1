#include "solver/report.hpp"

#include <glog/logging.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iomanip>
#include <numeric>

namespace crema {
namespace {

double Seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

// "1:02:03"
std::string ClockTime(double seconds) {
  const int64_t s = std::llround(std::max(0.0, seconds));
  char text[64];
  std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", static_cast<long long>(s / 3600),
                static_cast<long long>(s / 60 % 60), static_cast<long long>(s % 60));
  return text;
}

}  // namespace

void LogOutputs(const std::string& which, const std::vector<Net::Output>& outputs) {
  int index = 0;
  for (const Net::Output& output : outputs) {
    for (float value : output.values) {
      std::ostringstream loss;
      if (output.loss_weight != 0)
        loss << " (* " << output.loss_weight << " = " << output.loss_weight * value << " loss)";
      LOG(INFO) << "    " << which << " net output #" << index++ << ": " << output.name << " = " << value
                << loss.str();
    }
  }
}

std::string Megabytes(int64_t bytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / (1 << 20) << " MB";
  return text.str();
}

int64_t ResidentMemory() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  file >> size >> resident;
  return file ? resident * sysconf(_SC_PAGESIZE) : 0;
}

void SmoothedLoss::Add(double loss) {
  losses_.push_back(loss);
  if (static_cast<int64_t>(losses_.size()) > window_) losses_.pop_front();
}

double SmoothedLoss::value() const {
  if (losses_.empty()) return 0;
  return std::accumulate(losses_.begin(), losses_.end(), 0.0) / static_cast<double>(losses_.size());
}

SpeedReport::SpeedReport(int64_t samples, int64_t display, int64_t max_iter, bool progress)
    : samples_(samples), display_(display), max_iter_(max_iter), progress_(progress) {}

SpeedReport::~SpeedReport() {
  ClearProgress();
}

void SpeedReport::Start(int64_t iteration) {
  start_iteration_ = last_iteration_ = iteration;
  since_ = last_progress_ = Clock::now();
  trained_ = {};
}

void SpeedReport::Pause() {
  if (pauses_++ == 0) paused_at_ = Clock::now();
}

void SpeedReport::Resume() {
  if (--pauses_ == 0) since_ += Clock::now() - paused_at_;
}

void SpeedReport::LogIteration(int64_t iteration, double loss) {
  ClearProgress();
  const Clock::time_point now = Clock::now();
  const float lapse = static_cast<float>(Seconds(now - since_));
  const float per_second = static_cast<float>(iteration - last_iteration_) / (lapse > 0 ? lapse : 1);
  LOG(INFO) << "Iteration " << iteration << " (" << per_second << " iter/s, " << lapse << "s/" << display_
            << " iters), loss = " << static_cast<float>(loss);
  trained_ += now - since_;
  since_ = now;
  last_iteration_ = iteration;
  iterations_per_second_ = per_second;
}

void SpeedReport::LogSpeed(int64_t iteration) {
  if (iterations_per_second_ <= 0) return;
  const double mean =
      Seconds(trained_) / static_cast<double>(std::max<int64_t>(1, iteration - start_iteration_));
  LOG(INFO) << "    Speed: " << static_cast<float>(iterations_per_second_ * static_cast<double>(samples_))
            << " samples/s, memory " << Megabytes(ResidentMemory()) << ", "
            << ClockTime(mean * static_cast<double>(max_iter_ - iteration)) << " left";
}

void SpeedReport::ShowProgress(int64_t iteration, double loss) {
  const Clock::time_point now = Clock::now();
  if (!progress_ || Seconds(now - last_progress_) < 0.2) return;
  last_progress_ = now;
  const double trained = Seconds(trained_ + (now - since_));
  const double per_second = static_cast<double>(iteration - start_iteration_) / std::max(trained, 1e-9);
  const double left = per_second > 0 ? static_cast<double>(max_iter_ - iteration) / per_second : 0;
  std::fprintf(stderr, "\r%lld / %lld  loss %.5g  %.4g samples/s  %s left\033[K",
               static_cast<long long>(iteration), static_cast<long long>(max_iter_), loss,
               per_second * static_cast<double>(samples_), ClockTime(left).c_str());
  std::fflush(stderr);
  shown_ = true;
}

void SpeedReport::ClearProgress() {
  if (!shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace crema
