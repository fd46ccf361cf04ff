#pragma once
// A codec whose parts are lines of codes: it says where they are, and is decoded by that.

#include "kernels/kv_codec/code_lines.h"
#include "kernels/paged_attention/page_codec.h"

namespace adze::kernels {

class LineCodec : public PageCodec {
 public:
  explicit LineCodec(int64_t head_dim);  // a multiple of 16, at most kMostLines

  bool coded_part(const std::byte* page,
                  int64_t number,
                  const std::byte* side,
                  int64_t kv_head,
                  PagePart which,
                  CodedPart& part) const override;
  void decode_keys(const std::byte* page,
                   int64_t number,
                   const std::byte* side,
                   int64_t kv_head,
                   float* keys) const override;
  void decode_values(const std::byte* page,
                     int64_t number,
                     const std::byte* side,
                     int64_t kv_head,
                     float* values) const override;

 protected:
  virtual void find_lines(const std::byte* page,
                          const std::byte* side,
                          int64_t kv_head,
                          PagePart which,
                          CodedPart& part) const = 0;
  int64_t head_dim() const { return head_dim_; }

 private:
  int64_t head_dim_;
};

}  // namespace adze::kernels
