// Floor 6. What the solver tells: Caffe's log lines, which people's scripts parse, and speed, memory and time
// left beside them. All calls are for the root alone. Called by the solver.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "crema/net.hpp"

namespace crema {

// "    Train net output #0: loss = 2.31109 (* 1 = 2.31109 loss)", a line for each value.
void LogOutputs(const std::string& which, const std::vector<Net::Output>& outputs);

// "12.3 MB"
std::string Megabytes(int64_t bytes);
// Memory of this process now, in bytes; 0 where the system does not tell.
int64_t ResidentMemory();

// Mean of the last losses, as many as average_loss says.
class SmoothedLoss {
 public:
  explicit SmoothedLoss(int64_t window) : window_(window) {}
  void Add(double loss);
  double value() const;

 private:
  int64_t window_;
  std::deque<double> losses_;
};

// Speed since the last line of the log, and one line of progress on a terminal.
class SpeedReport {
 public:
  // `samples`: of all ranks in an iteration. `display`: iterations between lines.
  SpeedReport(int64_t samples, int64_t display, int64_t max_iter, bool progress);
  ~SpeedReport();

  void Start(int64_t iteration);  // the clock runs from here
  // "Iteration 20 (86.9 iter/s, 0.23s/20 iters), loss = 2.31"
  void LogIteration(int64_t iteration, double loss);
  void LogSpeed(int64_t iteration);  // samples/s, memory and time left of the line before
  void ShowProgress(int64_t iteration, double loss);
  void ClearProgress();  // before a line of the log
  // Time that is not training's, such as a test pass and a snapshot within it.
  void Pause();
  void Resume();

 private:
  using Clock = std::chrono::steady_clock;

  int64_t samples_, display_, max_iter_;
  bool progress_, shown_ = false;
  int pauses_ = 0;
  int64_t last_iteration_ = 0, start_iteration_ = 0;
  Clock::time_point since_, last_progress_, paused_at_;
  Clock::duration trained_{};  // since Start, without pauses, up to the last line
  double iterations_per_second_ = 0;
};

// Caffe's debug_info: the mean absolute value of each blob, weight and gradient as the net runs. Returns an
// observer.
std::function<void(const Net::Step&, bool, bool)> DebugObserver(const Context& ctx);
// "    [Backward] All net params (data, diff): L1 norm = (.., ..); L2 norm = (.., ..)"
void LogAllParams(const Context& ctx, const Net& net);

// Time of each step of a net.
class Profile {
 public:
  explicit Profile(const Context& ctx) : device_(ctx.device) {}
  void Observe(const Net& net, const Net::Step& step, bool forward, bool begin);
  void Add(const std::string& what, double seconds);  // work outside the layers
  void Log(const Net& net, int64_t passes, int64_t iterations) const;

 private:
  struct Times {
    double forward = 0, backward = 0;
  };
  Device* device_;
  std::chrono::steady_clock::time_point begin_;
  std::vector<Times> steps_;
  std::vector<std::pair<std::string, double>> others_;
};

}  // namespace crema
