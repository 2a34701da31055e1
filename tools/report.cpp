// One page, index.html, of a training run and its evaluation; it holds its pictures and needs no network.
#include <gflags/gflags.h>

#include <iostream>
#include <map>

#include "crema/io.hpp"
#include "eval/plot.hpp"
#include "eval/training_log.hpp"
#include "tool.hpp"

DEFINE_string(log, "", "Log of the training run, in Caffe's form.");
DEFINE_string(evaluation, "", "Folder that evaluate --report wrote.");
DEFINE_string(baseline, "", "Folder of another evaluation, such as the untrained net's, to show beside it.");
DEFINE_string(title, "Face recognition with Crema", "Title of the page.");
DEFINE_string(out, "index.html", "The page to write.");

namespace {

using namespace crema;

std::string Escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += c;
    }
  }
  return out;
}

// RFC 4648.
std::string Base64(const std::string& bytes) {
  static const char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string Figure(const std::string& png, const std::string& caption) {
  return "<figure><img alt=\"" + Escape(caption) + "\" src=\"data:image/png;base64," + Base64(png) +
         "\"><figcaption>" + Escape(caption) + "</figcaption></figure>\n";
}

using Figures = std::vector<std::pair<std::string, std::string>>;

// "name: value" lines.
Figures ReadFigures(const std::string& folder) {
  const std::string file = folder + "/figures.txt";
  Require(FileExists(file), "there is no ", file, "; expected a folder that evaluate --report wrote.");
  std::istringstream in(ReadFile(file));
  Figures figures;
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    Require(colon != std::string::npos, "a line of ", file, " is '", line,
            "' where \"name: value\" was expected.");
    figures.push_back({line.substr(0, colon), line.substr(colon + 2)});
  }
  return figures;
}

std::string Find(const Figures& figures, const std::string& name) {
  for (const auto& [key, value] : figures)
    if (key == name) return value;
  return "";
}

// The accuracy and the rates, large; "99.23 % ± 0.31 % over 5 folds" is cut after the number.
std::string Tiles(const Figures& figures, const Figures& baseline) {
  std::string html = "<div class=\"tiles\">\n";
  for (const char* name : {"accuracy", "TAR at FAR 1e-2", "TAR at FAR 1e-3", "EER"}) {
    const std::string value = Find(figures, name), before = Find(baseline, name);
    const size_t end = value.find(" %");
    if (end == std::string::npos) continue;
    html += "<div class=\"tile\"><div class=\"value\">" + value.substr(0, end) +
            "&thinsp;%</div><div class=\"name\">" + Escape(name) + "</div>";
    const std::string rest = value.substr(end + 2);
    if (rest.size() > 1) html += "<div class=\"note\">" + Escape(rest.substr(1)) + "</div>";
    if (const size_t stop = before.find(" %"); stop != std::string::npos)
      html += "<div class=\"note\">baseline " + before.substr(0, stop) + " %</div>";
    html += "</div>\n";
  }
  return html + "</div>\n";
}

std::string Table(const Figures& figures, const Figures& baseline) {
  std::string html = "<table>\n";
  if (!baseline.empty()) html += "<tr><th></th><th>this net</th><th>baseline</th></tr>\n";
  for (const auto& [name, value] : figures) {
    html += "<tr><th>" + Escape(name) + "</th><td>" + Escape(value) + "</td>";
    if (!baseline.empty()) html += "<td>" + Escape(Find(baseline, name)) + "</td>";
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string TrainingSection(const TrainingLog& log) {
  std::string html = "<h2>Training</h2>\n<p>" + Escape(Summary(log)) + "</p>\n<div class=\"pictures\">\n";
  std::vector<TrainingCurve> losses = {log.loss}, measures;
  for (const TrainingCurve& curve : log.test_outputs) {
    const bool is_loss = curve.label.find("loss") != std::string::npos;
    (is_loss ? losses : measures).push_back({"test: " + curve.label, curve.iteration, curve.value});
  }
  html += Figure(DrawTraining("Training loss", "loss", losses, false, true), "Loss over the iterations.");
  if (!measures.empty())
    html += Figure(DrawTraining("Test passes", "value", measures, false, false),
                   "What the test passes measured.");
  if (log.rate.value.size() > 1)
    html += Figure(DrawTraining("Learning rate", "learning rate", {log.rate}, true, false), "Learning rate.");
  return html + "</div>\n";
}

std::string EvaluationSection(const Figures& figures, const Figures& baseline) {
  const std::string folder = FLAGS_evaluation + "/";
  return "<h2>1:1 verification</h2>\n<p>Are two images of the same person? The threshold of each fold is "
         "chosen on the "
         "other folds.</p>\n<div class=\"pictures\">\n" +
         Figure(ReadFile(folder + "roc.png"),
                "Share of same pairs accepted over the share of different pairs accepted.") +
         Figure(ReadFile(folder + "scores.png"),
                "Distances of the pairs; left of the threshold a pair is accepted.") +
         "</div>\n<h2>Sample pairs</h2>\n<div class=\"wide\">\n" +
         Figure(ReadFile(folder + "pairs.png"), "Right verdicts in green, wrong ones in red.") +
         "</div>\n<h2>All figures</h2>\n" + Table(figures, baseline);
}

const char kStyle[] = R"(
body{margin:0;background:#f6f7f9;color:#1f2937;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:36px 24px 64px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px}
h2{font-size:20px;margin:40px 0 8px}
p{margin:0 0 14px;color:#4b5563}
.tiles{display:flex;flex-wrap:wrap;gap:16px;margin-top:24px}
.tile{flex:1 1 200px;background:#fff;border:1px solid #e5e7eb;border-radius:10px;padding:16px 20px}
.value{font-size:32px;font-weight:650;color:#1d4ed8;line-height:1.2}
.name{font-weight:600}
.note{color:#6b7280;font-size:14px}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:16px}
figure{margin:0;background:#fff;border:1px solid #e5e7eb;border-radius:10px;padding:12px}
figure img{display:block;width:100%;height:auto}
.wide figure img{max-width:820px;margin:0 auto}
figcaption{color:#6b7280;font-size:14px;padding:6px 4px 0}
table{border-collapse:collapse;background:#fff;border:1px solid #e5e7eb;width:100%}
th,td{text-align:left;vertical-align:top;padding:8px 14px;border-top:1px solid #e5e7eb;overflow-wrap:anywhere}
th{font-weight:600;white-space:nowrap}
@media(max-width:560px){.pictures{grid-template-columns:1fr}th{white-space:normal}}
)";

void Run() {
  Require(!FLAGS_log.empty() || !FLAGS_evaluation.empty(),
          "--log and --evaluation are missing: a training log, an evaluation's folder, or both.");
  Require(FLAGS_baseline.empty() || !FLAGS_evaluation.empty(), "--baseline needs --evaluation.");
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
      Escape(FLAGS_title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<main>\n<h1>" +
      Escape(FLAGS_title) + "</h1>\n";
  Figures figures, baseline;
  if (!FLAGS_baseline.empty()) baseline = ReadFigures(FLAGS_baseline);
  if (!FLAGS_evaluation.empty()) {
    figures = ReadFigures(FLAGS_evaluation);
    html += "<p>" + Escape(Find(figures, "pairs")) + "</p>\n" + Tiles(figures, baseline);
  }
  if (!FLAGS_log.empty()) html += TrainingSection(ReadTrainingLog(FLAGS_log));
  if (!FLAGS_evaluation.empty()) html += EvaluationSection(figures, baseline);
  WriteFile(FLAGS_out, html + "</main>\n</body>\n</html>\n");
  std::cout << "wrote " << FLAGS_out << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  gflags::SetUsageMessage("one page of a run: report --log=TRAIN_LOG --evaluation=DIR --out=index.html");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RunTool("report", nullptr, [&] {
    Require(argc == 1, "report takes flags only and was given '", argc > 1 ? argv[1] : "", "'.");
    Run();
    return 0;
  });
}
