#include "kernels/kv_codec/line_codec.h"

#include "core/check.h"

namespace adze::kernels {

LineCodec::LineCodec(int64_t head_dim) : head_dim_(head_dim) {
  core::check(head_dim % 16 == 0 && head_dim <= kMostLines,
              "heads of 16 to ",
              kMostLines,
              " channels, a multiple of 16, got ",
              head_dim);
}

bool LineCodec::coded_part(const std::byte* page,
                           int64_t /*number*/,
                           const std::byte* side,
                           int64_t kv_head,
                           PagePart which,
                           CodedPart& part) const {
  find_lines(page, side, kv_head, which, part);
  return true;
}

void LineCodec::decode_keys(const std::byte* page,
                            int64_t /*number*/,
                            const std::byte* side,
                            int64_t kv_head,
                            float* keys) const {
  CodedPart part;
  find_lines(page, side, kv_head, PagePart::kKey, part);
  kernels::decode_keys(part, head_dim_, keys);
}

void LineCodec::decode_values(const std::byte* page,
                              int64_t /*number*/,
                              const std::byte* side,
                              int64_t kv_head,
                              float* values) const {
  CodedPart part;
  find_lines(page, side, kv_head, PagePart::kValue, part);
  kernels::decode_values(part, head_dim_, values);
}

}  // namespace adze::kernels
