#include "eval/plot.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <opencv2/imgcodecs.hpp>

#include "eval/canvas.hpp"

namespace crema {
namespace {

// A share as "98.53 %".
std::string Percent(double share) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f %%", 100 * share);
  return text;
}

std::string Fixed(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

// A round low end for values between `low` and 1, so that high curves fill the chart.
double RoundLow(double low) {
  for (double end : {0.99, 0.98, 0.95, 0.9, 0.8, 0.5})
    if (low > end + (1 - end) * 0.1) return end;
  return 0;
}

}  // namespace

std::string DrawRoc(const Verification& v) {
  Axis x{"false accept rate (FAR)", 0, 1, true}, y{"true accept rate (TAR)", 0, 1, false};
  x.low = std::pow(10, std::floor(std::log10(0.99 / static_cast<double>(v.different_pairs))));
  x.low = std::min(x.low, 0.1);
  std::vector<double> far, tar;
  double before = 0;  // TAR of the step that the next point ends
  for (const RocPoint& point : v.roc) {
    if (point.far > 0) far.push_back(point.far), tar.push_back(before);
    before = point.tar;
    far.push_back(std::max(point.far, x.low)), tar.push_back(before);
  }
  // The part of the first step that rises at FAR 0 lies on the axis: begin at its end.
  const auto first = std::find_if(v.roc.begin(), v.roc.end(), [](const RocPoint& p) { return p.far > 0; });
  const size_t skip = static_cast<size_t>(first - v.roc.begin()) - 1;
  far.erase(far.begin(), far.begin() + static_cast<int64_t>(skip));
  tar.erase(tar.begin(), tar.begin() + static_cast<int64_t>(skip));
  y.low = RoundLow(tar.front());

  Chart chart("ROC of 1:1 verification",
              Concat(v.same_pairs, " same and ", v.different_pairs, " different pairs, AUC ", Fixed(v.auc, 4),
                     ", EER ", Percent(v.eer)),
              x, y);
  if (y.low == 0) {
    std::vector<double> chance;
    for (double power = std::log10(x.low); power < 0.001; power += 0.02)
      chance.push_back(std::pow(10, power));
    chart.Curve(chance, chance, colours::kFrame, 1.2);
    chart.AddToLegend("chance", colours::kFrame);
  }
  chart.Curve(far, tar, colours::kBlue, 2.2);
  for (double at : {1e-4, 1e-3, 1e-2, 1e-1}) {
    const std::optional<double> rate = TarAtFar(v, at);
    if (!rate || at < x.low) continue;
    chart.Dot(at, *rate, colours::kBlue);
    chart.Note(Percent(*rate) + " at " + Short(at), at, *rate, 9, 18, Align::kLeft);
  }
  return chart.Png();
}

std::string DrawScores(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                       double threshold) {
  Require(!distance.empty(), "there are no scores to draw");
  const double high = std::max(*std::max_element(distance.begin(), distance.end()), threshold);
  double width = 0.05;
  while (high < 10 * width && width > 1e-6) width /= 5;  // an untrained net's embeddings are nearly equal
  const size_t bins = static_cast<size_t>(std::ceil(high / width)) + 2;
  std::vector<double> share[2] = {std::vector<double>(bins, 0), std::vector<double>(bins, 0)};
  const double total[2] = {
      static_cast<double>(std::count(same.begin(), same.end(), 0)),
      static_cast<double>(same.size()) - static_cast<double>(std::count(same.begin(), same.end(), 0))};
  double top = 0;
  for (size_t i = 0; i < distance.size(); ++i) {
    double& bin = share[same[i] != 0][static_cast<size_t>(distance[i] / width)];
    bin += 100 / total[same[i] != 0];
    top = std::max(top, bin);
  }
  Chart chart("Scores of same and different pairs", Concat("bins of ", width, ", each kind adds up to 100 %"),
              {"squared distance of the unit-length embeddings (0 equal, 2 unrelated)", 0,
               static_cast<double>(bins) * width, false},
              {"share of the pairs of a kind (%)", 0, top * 1.12, false});
  for (size_t kind : {size_t{1}, size_t{0}})
    for (size_t bin = 0; bin < bins; ++bin)
      if (share[kind][bin] > 0)
        chart.Bar(static_cast<double>(bin) * width, static_cast<double>(bin + 1) * width, share[kind][bin],
                  kind ? colours::kBlue : colours::kOrange);
  const bool right = threshold > 0.8 * static_cast<double>(bins) * width;
  chart.Dashes(threshold, 0, threshold, top * 1.12, colours::kText);
  chart.Note("threshold " + Fixed(threshold, 2), threshold, top * 1.12, right ? -8 : 8, 14,
             right ? Align::kRight : Align::kLeft);
  chart.AddToLegend("same person", colours::kBlue);
  chart.AddToLegend("different people", colours::kOrange);
  return chart.Png();
}

namespace {

// The mean over a window of about a twentieth of the curve, centred, smaller at the ends.
std::vector<double> Smooth(const std::vector<double>& values) {
  const int64_t count = static_cast<int64_t>(values.size()), reach = std::max<int64_t>(1, count / 40);
  std::vector<double> sums(values.size() + 1, 0), smooth;
  std::partial_sum(values.begin(), values.end(), sums.begin() + 1);
  for (int64_t i = 0; i < count; ++i) {
    const size_t begin = static_cast<size_t>(std::max<int64_t>(0, i - reach));
    const size_t end = static_cast<size_t>(std::min(count, i + reach + 1));
    smooth.push_back((sums[end] - sums[begin]) / static_cast<double>(end - begin));
  }
  return smooth;
}

struct Range {
  double low = INFINITY, high = -INFINITY;
  void Add(double value) { low = std::min(low, value), high = std::max(high, value); }
};

Axis ValueAxis(const std::string& label, Range range, bool log_axis) {
  log_axis = log_axis && range.low > 0 && range.high > 10 * range.low;
  if (log_axis) {
    return {label, std::pow(10, std::floor(std::log10(range.low))),
            std::pow(10, std::ceil(std::log10(range.high))), true};
  }
  const double margin =
      range.high > range.low ? 0.06 * (range.high - range.low) : std::max(0.5, std::abs(range.high));
  // Zero where the values come near it.
  const double low = range.low >= 0 && range.low < 0.6 * range.high ? 0 : range.low - margin;
  return {label, low, range.high + margin, false};
}

}  // namespace

std::string DrawTraining(const std::string& title, const std::string& axis,
                         const std::vector<TrainingCurve>& curves, bool log_axis, bool smooth_first) {
  static const Colour kColours[] = {colours::kBlue, colours::kOrange, colours::kGreen, colours::kRed,
                                    colours::kMuted};
  std::vector<TrainingCurve> finite;
  Range iterations, values;
  for (const TrainingCurve& curve : curves) {
    finite.push_back({curve.label, {}, {}});
    for (size_t i = 0; i < curve.value.size(); ++i) {
      if (!std::isfinite(curve.value[i])) continue;
      finite.back().iteration.push_back(curve.iteration[i]), finite.back().value.push_back(curve.value[i]);
      iterations.Add(curve.iteration[i]), values.Add(curve.value[i]);
    }
  }
  Require(iterations.high >= iterations.low, "there is nothing to draw for '", title, "'");
  const double last = std::max(iterations.high, iterations.low + 1);
  Chart chart(title, Concat("to iteration ", static_cast<int64_t>(iterations.high)),
              {"iteration", iterations.low, last, false}, ValueAxis(axis, values, log_axis));
  for (size_t i = 0; i < finite.size(); ++i) {
    const TrainingCurve& curve = finite[i];
    const Colour& colour = kColours[i % std::size(kColours)];
    const bool smooth = smooth_first && i == 0 && curve.value.size() >= 20;
    if (smooth) chart.Curve(curve.iteration, curve.value, colours::kPale, 1.2);
    chart.Curve(curve.iteration, smooth ? Smooth(curve.value) : curve.value, colour, 2.2);
    if (curve.value.size() <= 30)
      for (size_t k = 0; k < curve.value.size(); ++k) chart.Dot(curve.iteration[k], curve.value[k], colour);
    if (finite.size() > 1 || smooth)
      chart.AddToLegend(curve.label + (smooth ? " (running mean)" : ""), colour);
  }
  return chart.Png();
}

std::string DrawPairs(const std::string& title, const std::vector<PairSection>& sections) {
  constexpr double kFace = 84, kCard = 2 * kFace + 22, kRow = kFace + 42, kMargin = 28, kHeading = 40;
  constexpr size_t kColumns = 4;
  double height = 62;
  for (const PairSection& section : sections)
    if (!section.pairs.empty())
      height += kHeading + kRow * static_cast<double>((section.pairs.size() + kColumns - 1) / kColumns);
  Canvas canvas(2 * kMargin + kCard * kColumns - 14, height);
  canvas.Text(title, {kMargin, 34}, 11, colours::kText, Align::kLeft, true);
  double y = 50;
  for (const PairSection& section : sections) {
    if (section.pairs.empty()) continue;
    canvas.Text(section.heading, {kMargin, y + 22}, 9, colours::kText);
    y += kHeading;
    for (size_t i = 0; i < section.pairs.size(); ++i) {
      const PairPicture& pair = section.pairs[i];
      const double x = kMargin + kCard * static_cast<double>(i % kColumns);
      const double top = y + kRow * static_cast<double>(i / kColumns);
      const Colour& verdict = pair.right ? colours::kGreen : colours::kRed;
      for (int k : {0, 1}) {
        const std::string& bytes = k ? pair.second : pair.first;
        const cv::Mat image = cv::imdecode(std::vector<char>(bytes.begin(), bytes.end()), cv::IMREAD_COLOR);
        Require(!image.empty(), "an image of the sample pairs does not decode");
        canvas.Image(image, {x + k * (kFace + 3), top, kFace, kFace});
      }
      canvas.Frame({x - 1.5, top - 1.5, 2 * kFace + 6, kFace + 3}, verdict, 2);
      canvas.Text(pair.right ? "right" : "wrong", {x, top + kFace + 18}, 8, verdict, Align::kLeft, true);
      canvas.Text("distance " + Fixed(pair.distance, 2), {x + 2 * kFace + 3, top + kFace + 18}, 8,
                  colours::kText, Align::kRight);
    }
    y += kRow * static_cast<double>((section.pairs.size() + kColumns - 1) / kColumns);
  }
  return canvas.Png();
}

}  // namespace crema
