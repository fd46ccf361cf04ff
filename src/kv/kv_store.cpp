#include "kv/kv_store.h"

#include <algorithm>

#include "core/check.h"
#include "core/error.h"

namespace adze::kv {

int64_t SlotPages::bytes() const {
  int64_t total = static_cast<int64_t>(positions.size() * sizeof(int32_t));
  for (const PageRef& page : sealed) {
    total += page.bytes();
  }
  for (size_t i = 0; i < raw.size(); ++i) {
    const auto page = static_cast<size_t>(first_raw) + i;
    // Where both forms are one, a page counts once.
    if (page >= sealed.size() || sealed[page].data() != raw[i].data()) {
      total += raw[i].bytes();
    }
  }
  return total;
}

void KvStore::append(PagePool& pool,
                     SlotPages& slot,
                     const float* key,
                     const float* value,
                     int64_t rows,
                     int64_t first_position) const {
  const int64_t width = shape_.kv_heads * shape_.head_dim;
  if (!slot.positions.empty()) {
    const auto marks = static_cast<int64_t>(slot.positions.size()) / slot.length;
    for (int64_t mark = 0; mark < rows * marks; ++mark) {
      slot.positions.push_back(static_cast<int32_t>(first_position + mark / marks));
    }
  }
  for (int64_t row = 0; row < rows;) {
    const int64_t index = slot.length % kPageTokens;
    if (index == 0) {
      if (!slot.raw.empty()) {
        slot.sealed.push_back(seal(pool, slot.raw.back()));
      } else {
        slot.first_raw = static_cast<int64_t>(slot.sealed.size());
      }
      slot.raw.push_back(pool.allocate(raw_page_bytes()));
    } else if (slot.raw.back().shared()) {
      slot.raw.back() = pool.copy(slot.raw.back());
    }
    const int64_t count = std::min(kPageTokens - index, rows - row);
    kernels::write_page_tokens(shape_,
                               raw_type(),
                               key + row * width,
                               value + row * width,
                               index,
                               count,
                               slot.raw.back().data());
    row += count;
    slot.length += count;
  }
}

void KvStore::end_step(SlotPages& slot) const {
  if (slot.raw.size() > 1) {
    slot.first_raw += static_cast<int64_t>(slot.raw.size()) - 1;
    slot.raw.erase(slot.raw.begin(), slot.raw.end() - 1);
  }
}

void KvStore::truncate(SlotPages& slot, int64_t length) const {
  core::check(
      length >= 0 && length <= slot.length, "length within ", slot.length, ", got ", length);
  core::check(slot.positions.empty(), "truncation of a cache that has dropped tokens");
  end_step(slot);
  if (length == slot.length) {
    return;
  }
  const int64_t open_page = length / kPageTokens;  // the page that would hold token `length`
  if (length % kPageTokens != 0 && open_page < slot.first_raw && !sealed_is_raw()) {
    throw core::error("cache",
                      "store {}: expected to cut back to {} tokens or more, or to a "
                      "multiple of {}, got {}",
                      name(),
                      slot.first_raw * kPageTokens,
                      kPageTokens,
                      length);
  }
  if (open_page < slot.first_raw) {
    slot.raw.clear();
    if (length % kPageTokens != 0) {
      slot.raw.push_back(slot.sealed[static_cast<size_t>(open_page)]);
    }
    slot.sealed.resize(static_cast<size_t>(open_page));
    slot.first_raw = open_page;
  } else if (length % kPageTokens == 0) {
    slot.raw.clear();
  }
  slot.length = length;
}

namespace {

// True where the kept tokens [page * 32, ...) are exactly those of one old page, in their places.
bool is_whole_page(const Columns& columns, int64_t page, int64_t count, int64_t* old_page) {
  const int64_t kept = columns.kept();
  const int64_t first = page * kPageTokens;
  *old_page = columns.ranks[static_cast<size_t>(first)] / kPageTokens;
  for (int64_t head = 0; head < columns.heads; ++head) {
    for (int64_t i = 0; i < count; ++i) {
      if (columns.ranks[static_cast<size_t>(head * kept + first + i)] !=
          *old_page * kPageTokens + i) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

PageRef KvStore::pack_page(PagePool& pool,
                           const SlotPages& slot,
                           const Columns& columns,
                           int64_t page) const {
  const auto width = static_cast<size_t>(shape_.kv_heads * shape_.head_dim);
  const auto head_dim = static_cast<size_t>(shape_.head_dim);
  const int64_t kept = columns.kept();
  const int64_t first = page * kPageTokens;
  const int64_t count = std::min(kPageTokens, kept - first);
  PageRef target = pool.allocate(raw_page_bytes());
  std::vector<float> key(width);
  std::vector<float> value(width);
  std::vector<float> packed_key(width * static_cast<size_t>(count));
  std::vector<float> packed_value(packed_key.size());
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t head = 0; head < columns.heads; ++head) {
      const int64_t rank = columns.ranks[static_cast<size_t>(head * kept + first + i)];
      const int64_t source = rank / kPageTokens;
      if (source >= slot.first_raw) {
        kernels::read_page_token(shape_,
                                 raw_type(),
                                 slot.raw[static_cast<size_t>(source - slot.first_raw)].data(),
                                 rank % kPageTokens,
                                 key.data(),
                                 value.data());
      } else {
        read_sealed(
            slot.sealed[static_cast<size_t>(source)], rank % kPageTokens, key.data(), value.data());
      }
      const size_t begin = static_cast<size_t>(head) * head_dim;
      const size_t end = columns.heads == 1 ? width : begin + head_dim;
      const size_t offset = static_cast<size_t>(i) * width;
      std::copy(key.data() + begin, key.data() + end, packed_key.data() + offset + begin);
      std::copy(value.data() + begin, value.data() + end, packed_value.data() + offset + begin);
    }
  }
  kernels::write_page_tokens(
      shape_, raw_type(), packed_key.data(), packed_value.data(), 0, count, target.data());
  return target;
}

void KvStore::keep(PagePool& pool, SlotPages& slot, const Columns& columns) const {
  end_step(slot);
  const int64_t kept = columns.kept();
  core::check(kept >= 1 && (columns.heads == 1 || columns.heads == shape_.kv_heads),
              "columns of 1 or kv_heads heads, at least one kept");
  SlotPages result;
  const int64_t pages = (kept + kPageTokens - 1) / kPageTokens;
  for (int64_t page = 0; page < pages; ++page) {
    const int64_t count = std::min(kPageTokens, kept - page * kPageTokens);
    const bool last = page == pages - 1;
    int64_t old_page = 0;
    const bool whole = is_whole_page(columns, page, count, &old_page);
    if (whole && !last && old_page < static_cast<int64_t>(slot.sealed.size())) {
      result.sealed.push_back(slot.sealed[static_cast<size_t>(old_page)]);
    } else if (whole && last && old_page >= slot.first_raw) {
      result.raw.push_back(slot.raw[static_cast<size_t>(old_page - slot.first_raw)]);
    } else if (last) {
      result.raw.push_back(pack_page(pool, slot, columns, page));
    } else {
      result.sealed.push_back(seal(pool, pack_page(pool, slot, columns, page)));
    }
  }
  result.first_raw = pages - 1;
  result.length = kept;
  // Heads that kept different tokens, now or before, need a position each.
  const int64_t marks =
      slot.positions.empty() ? 1 : static_cast<int64_t>(slot.positions.size()) / slot.length;
  const int64_t heads = std::max(marks, columns.heads);
  for (int64_t i = 0; i < kept; ++i) {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t column = columns.heads == 1 ? i : head * kept + i;
      const int64_t rank = columns.ranks[static_cast<size_t>(column)];
      const int64_t mark = rank * marks + (marks == 1 ? 0 : head);
      result.positions.push_back(slot.positions.empty()
                                     ? static_cast<int32_t>(rank)
                                     : slot.positions[static_cast<size_t>(mark)]);
    }
  }
  slot = std::move(result);
}

}  // namespace adze::kv
