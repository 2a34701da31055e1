// Protobuf messages as text.
#include <algorithm>
#include <map>
#include <vector>

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include "base/byte_order_mark.hpp"
#include "crema/io.hpp"

namespace crema {

namespace {

// What the parser had to say at a place of the text; line and column from 0.
struct Remark {
  int line, column;
  std::string message;
};

class Remarks : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (errors.empty()) errors.push_back({line, column, message});
  }
  void AddWarning(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    warnings.push_back({line, column, message});
  }
  std::vector<Remark> errors, warnings;  // of the errors the first
};

// What stands between double quotes.
std::vector<std::string> QuotedIn(const std::string& sentence) {
  std::vector<std::string> quoted;
  for (size_t open = sentence.find('"'); open != std::string::npos;) {
    const size_t close = sentence.find('"', open + 1);
    if (close == std::string::npos) break;
    quoted.push_back(sentence.substr(open + 1, close - open - 1));
    open = sentence.find('"', close + 1);
  }
  return quoted;
}

// The word that a remark is about; its field is empty where it is about something else.
UnknownWord WordOf(const Remark& remark) {
  const std::vector<std::string> quoted = QuotedIn(remark.message);
  UnknownWord word;
  if (quoted.size() == 2 && remark.message.starts_with("Message type ")) {
    word.message = quoted[0].substr(quoted[0].rfind('.') + 1);
    word.field = quoted[1];
  } else if (quoted.size() == 2 && remark.message.starts_with("Unknown enumeration value ")) {
    word.value = quoted[0];
    word.field = quoted[1];
  } else if (quoted.empty() && remark.message == "Expected integer, got: [") {
    word.value = "[";  // a list for a field that has one number
  }
  return word;
}

std::string SentenceOf(const Remark& remark, const UnknownWord& word) {
  if (!word.message.empty()) return Concat(word.message, " has no field \"", word.field, "\"");
  if (!word.field.empty()) return Concat("the field \"", word.field, "\" has no value ", word.value);
  std::string sentence = remark.message;
  if (sentence.starts_with("Interpreting non ascii codepoint"))
    return "found a character that is not ASCII outside of quotes and comments";
  if (sentence.ends_with("got: ")) sentence += "the end of the file";
  if (sentence.ends_with('.')) sentence.pop_back();
  return sentence;
}

std::string AdviceFor(const UnknownWord& word, const TextOptions& options) {
  const bool asks = options.advice != nullptr && (!word.field.empty() || !word.value.empty());
  const std::string advice = asks ? options.advice(word) : "";
  return advice.empty() ? "" : "; " + advice;
}

// The parser's columns count a tab up to the next multiple of 8.
size_t OffsetOf(const std::string& text, const Remark& place) {
  size_t at = 0;
  for (int line = 0; line < place.line && at < text.size(); ++at) line += text[at] == '\n';
  for (int column = 0; column < place.column && at < text.size() && text[at] != '\n'; ++at)
    column = text[at] == '\t' ? column / 8 * 8 + 8 : column + 1;
  return at;
}

// "field: VALUE" in the text.
struct Pair {
  size_t begin = std::string::npos, value = 0, end = 0;
};

// The last one before the place where the parser found the value unknown, which is behind it.
Pair PairBefore(const std::string& text, const Remark& place, const UnknownWord& word) {
  const size_t value = text.rfind(word.value, OffsetOf(text, place));
  if (value == std::string::npos || value == 0) return {};
  const size_t field = text.rfind(word.field, value - 1);
  if (field == std::string::npos) return {};
  const size_t between = field + word.field.size();
  if (text.substr(between, value - between).find_first_not_of(" \t\r\n:") != std::string::npos) return {};
  return {field, value, value + word.value.size()};
}

// Moves a remark about an unknown value to where the value stands.
void PointAtValue(const std::string& text, const Pair& pair, Remark* remark) {
  if (pair.begin == std::string::npos) return;
  const auto upto = text.begin() + static_cast<std::ptrdiff_t>(pair.value);
  remark->line = static_cast<int>(std::count(text.begin(), upto, '\n'));
  remark->column = 0;
  for (size_t at = text.rfind('\n', pair.value) + 1; at < pair.value; ++at)
    remark->column = text[at] == '\t' ? remark->column / 8 * 8 + 8 : remark->column + 1;
}

// What weights and UTF-16 have and text in UTF-8 has not; the text's size where there is none.
size_t FirstControlByte(const std::string& text) {
  const auto is_control = [](char c) { return (c >= 0 && c < '\t') || (c > '\r' && c < ' '); };
  return static_cast<size_t>(std::find_if(text.begin(), text.end(), is_control) - text.begin());
}

class TextReader {
 public:
  TextReader(const std::string& name, const TextOptions& options) : name_(name), options_(options) {}

  void Read(std::string text, google::protobuf::Message* message) {
    for (;;) {
      Remarks remarks;
      google::protobuf::TextFormat::Parser parser;
      parser.RecordErrorsTo(&remarks);
      parser.AllowUnknownField(options_.lenient);
      const bool read = parser.ParseFromString(text, message);
      if (read) {
        for (const Remark& remark : remarks.warnings) Note(remark);
        return Warn();
      }
      Require(!remarks.errors.empty(), name_, ": not a text ", message->GetTypeName());
      Remark error = remarks.errors[0];
      const UnknownWord word = WordOf(error);
      const bool is_value = !word.value.empty() && !word.field.empty();
      const Pair pair = is_value ? PairBefore(text, error, word) : Pair();
      if (is_value) PointAtValue(text, pair, &error);
      if (!options_.lenient || pair.begin == std::string::npos) {
        Fail(name_, ":", error.line + 1, ":", error.column + 1, ": ", SentenceOf(error, word),
             AdviceFor(word, options_));
      }
      Note(error);
      Blank(pair, &text);  // the parser itself can skip fields, but not values
    }
  }

 private:
  static void Blank(const Pair& pair, std::string* text) {
    for (size_t i = pair.begin; i < pair.end; ++i)
      if ((*text)[i] != '\n') (*text)[i] = ' ';
  }

  // A word that is skipped; it counts once for each place.
  void Note(const Remark& remark) {
    const UnknownWord word = WordOf(remark);
    auto [first, is_new] = skipped_.try_emplace(SentenceOf(remark, word), Skipped{remark, word, 0});
    Skipped& skipped = first->second;
    if (!is_new && remark.line < skipped.first.line) skipped.first = remark;
    ++skipped.count;
  }

  void Warn() const {
    if (options_.warn == nullptr) return;
    std::vector<const std::pair<const std::string, Skipped>*> in_order;
    for (const auto& entry : skipped_) in_order.push_back(&entry);
    std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
      return std::pair(a->second.first.line, a->second.first.column) <
             std::pair(b->second.first.line, b->second.first.column);
    });
    for (const auto* entry : in_order) {
      const Skipped& skipped = entry->second;
      const std::string more = skipped.count == 1 ? "" : Concat(", ", skipped.count, " times");
      options_.warn(Concat(name_, ":", skipped.first.line + 1, ": ", entry->first, ", which is skipped", more,
                           AdviceFor(skipped.word, options_)));
    }
  }

  struct Skipped {
    Remark first;
    UnknownWord word;
    int count;
  };
  const std::string& name_;
  const TextOptions& options_;
  std::map<std::string, Skipped> skipped_;  // by what is said of it
};

}  // namespace

void ParseText(const std::string& text, const std::string& name, google::protobuf::Message* message,
               const TextOptions& options) {
  const size_t control = FirstControlByte(text);
  Require(control == text.size(), name, " is not text: its byte ", control + 1, " is ",
          control < text.size() ? static_cast<int>(text[control]) : 0,
          "; expected a prototxt in ASCII or UTF-8");
  TextReader(name, options).Read(text.substr(BeginOfText(text)), message);
}

void ReadText(const std::string& path, google::protobuf::Message* message, const TextOptions& options) {
  ParseText(ReadFile(path), path, message, options);
}

std::string ToText(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.PrintToString(message, &text);
  return text;
}

}  // namespace crema
