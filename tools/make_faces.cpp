// Makes images of synthetic people, to try things on: OUT_DIR/<person>/<image>.jpg, a list train.txt of the
// people to train on and a list pairs.txt of pairs of people that are not in it.
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include <opencv2/imgcodecs.hpp>

#include "data/prefetch.hpp"
#include "face_drawing.hpp"
#include "face_lists.hpp"
#include "tool.hpp"

DEFINE_int64(identities, 1000, "People to train on.");
DEFINE_int64(test_identities, 200, "People to make pairs of; not among those to train on.");
DEFINE_int64(images, 20, "Images of each person.");
DEFINE_int64(pairs, 3000, "Pairs of the people held out, half of them of one person.");
DEFINE_int32(size, 112, "Side of the images in pixels.");
DEFINE_int64(seed, 0, "Key of all that is random.");
DEFINE_string(sheet, "", "Also write a contact sheet to this file: a row of images for each of some people.");

namespace {

using namespace crema;

std::string Padded(int64_t number, size_t digits) {
  const std::string text = std::to_string(number);
  return std::string(digits > text.size() ? digits - text.size() : 0, '0') + text;
}

std::string PathOf(int64_t person, int64_t image) {
  return Padded(person, 5) + "/" + Padded(image, 3) + ".jpg";
}

uint64_t Seed() {
  return static_cast<uint64_t>(FLAGS_seed);
}

cv::Mat DrawFace(int64_t person, int64_t image, int* quality) {
  const Person who = MakePerson(Seed(), person);
  const Shot shot = MakeShot(Seed(), person * FLAGS_images + image);
  *quality = shot.quality;
  return FaceDrawing(who, shot, FLAGS_size).Draw();
}

void DrawPerson(const std::string& folder, int64_t person) {
  MakeDirectories(folder + "/" + Padded(person, 5));
  for (int64_t k = 0; k < FLAGS_images; ++k) {
    int quality = 0;
    const cv::Mat face = DrawFace(person, k, &quality);
    std::vector<uint8_t> bytes;
    cv::imencode(".jpg", face, bytes, {cv::IMWRITE_JPEG_QUALITY, quality});
    const std::string file = folder + "/" + PathOf(person, k);
    std::ofstream out(file, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    out.close();
    Require(out.good(), "the image ", file, " cannot be written: ", std::strerror(errno));
  }
}

void WriteSheet(const std::string& file, int64_t people) {
  const int rows = static_cast<int>(std::min<int64_t>(people, 10));
  const int columns = static_cast<int>(std::min<int64_t>(FLAGS_images, 10));
  cv::Mat sheet(rows * FLAGS_size, columns * FLAGS_size, CV_8UC3);
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x) {
      int quality = 0;
      DrawFace(y, x, &quality)
          .copyTo(sheet(cv::Rect(x * FLAGS_size, y * FLAGS_size, FLAGS_size, FLAGS_size)));
    }
  std::vector<uint8_t> bytes;
  cv::imencode(".png", sheet, bytes);
  WriteFile(file, {bytes.begin(), bytes.end()});
}

void CheckFlags() {
  Require(FLAGS_identities >= 1 && FLAGS_images >= 1 && FLAGS_test_identities >= 0 && FLAGS_pairs >= 0,
          "--identities is ", FLAGS_identities, ", --images ", FLAGS_images, ", --test_identities ",
          FLAGS_test_identities, " and --pairs ", FLAGS_pairs, "; expected at least 1, 1, 0 and 0");
  Require(FLAGS_size >= 16 && FLAGS_size <= 1024, "--size is ", FLAGS_size, "; expected 16 to 1024");
}

People PathsOf(int64_t first, int64_t count) {
  People people(static_cast<size_t>(count));
  for (int64_t k = 0; k < count; ++k)
    for (int64_t image = 0; image < FLAGS_images; ++image)
      people[static_cast<size_t>(k)].push_back(PathOf(first + k, image));
  return people;
}

int Run(const std::string& folder) {
  CheckFlags();
  const int64_t people = FLAGS_identities + FLAGS_test_identities;
  Require(!FileExists(folder + "/train.txt"), "the folder ", folder,
          " has a train.txt already; remove it or choose another folder");
  MakeDirectories(folder);
  WriteTrainList(folder + "/train.txt", PathsOf(0, FLAGS_identities));
  int64_t pairs = 0;
  if (FLAGS_test_identities > 0 && FLAGS_pairs > 0)
    pairs = WritePairList(folder + "/pairs.txt", PathsOf(FLAGS_identities, FLAGS_test_identities),
                          FLAGS_pairs, Seed());
  if (!FLAGS_sheet.empty()) WriteSheet(FLAGS_sheet, people);
  cv::setNumThreads(1);
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  Prefetch<int> drawn([&](int64_t person, int*) { DrawPerson(folder, person); }, threads, 4 * threads,
                      people);
  for (int64_t person = 0; person < people; ++person) drawn.Get(person);
  LOG(INFO) << "Made " << people * FLAGS_images << " images of " << people << " people in " << folder << ": "
            << FLAGS_identities << " to train on, " << FLAGS_test_identities << " in " << pairs << " pairs.";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StartTool(&argc, &argv, "make_faces [FLAGS] OUT_DIR");
  if (argc != 2)
    return UsageError("make_faces", Concat("found ", argc - 1, " arguments where a folder was expected"));
  return RunTool("make_faces", nullptr, [&] { return Run(argv[1]); });
}
