"""Recording of CLIP's tokenizer: a small vocabulary, prompts that are hard to split, and their token ids.

    python3 tests/golden/record_tokenizer.py        # needs transformers and safetensors

Recorded with Python 3.11, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0. Seeded; two runs give the
same bytes. The vocabulary is trained here on the prompts by the rule that `train_bpe` states (most frequent
pair first, ties to the pair that sorts first), so that the C++ trainer has something to be compared with.
"""
import json
import pathlib
import random
from collections import Counter

import torch
from safetensors.torch import save_file
from transformers import CLIPTokenizer

OUT = pathlib.Path(__file__).parent / "tokenizer"
SIZE, LENGTH = 700, 77

HARD = ["", "   ", "!", "!!", "a!b wow!!", "don't DON'T can't'll''s 's's", "1234 12a3b 1st", "\u0130stanbul ΣΊΣΥΦΟΣ ς ß ẞ ǅ ﬁ",
        "e\u0301 é e\u0323\u0302", "a\u00a0b\u2003c\u3000d\u200be\ufefff", "x\u0085y", "tab\tand\x0bvt\x0cff\x1cfs\x1ed",
        "½ ² Ⅷ ٣ 一 〇", "<|endoftext|> <|startoftext|>", "a <|ENDOFTEXT|> b", "a<|endoftext|>b<|start", "x <|startoftext",
        "ﷺ ㎏ ℌ", "가각힣 한국어", "किताब नमस्ते", "ไทย ภาษา", "العربية שלום", "👩‍👩‍👧‍👦 🏳️‍🌈 😀", "a_b-c/d\\e", "\u0000nul",
        "zero\u200bwidth\u200djoin", "\u1112\u1161\u11ab", "ŉ ŀ \u212a \u212b", "𝔘𝔫𝔦 𐐀 𐐨", "\u034fa\u034f\u0308", "\x7f\x80\x9f",
        "q\u0323\u0307 q\u0307\u0323", "ſ 'ſ 'S", "Ᏸ Ꭰ ꭰ", "the the  the", "a photo of a café in São Paulo",
        "日本語のテキスト と 漢字", "привет мир, как дела", "naïve façade élève", "I'm you're he'll they've it's don't I'd"]
WORDS = ("a photo of the handwritten digit zero one two three four five six seven eight nine printed in bold italic "
         "large small slanted thin, dark grey paper; tench parachute golden retriever cassette player (chain saw) "
         "sitting on a tiled floor next to an open window - with people standing around 2 3 10 don't best quality").split()
RANGES = [(0x20, 0x7e), (0xa0, 0x24f), (0x370, 0x5ff), (0x900, 0xd7f), (0x1e00, 0x206f), (0x2070, 0x2bff),
          (0x3000, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0x1f300, 0x1f5ff)]


def make_prompts():
    rng = random.Random(20)
    prompts = list(HARD)
    for _ in range(50):
        prompts.append("".join(chr(rng.randint(*rng.choice(RANGES))) for _ in range(rng.randint(1, 16))))
    for _ in range(40):
        prompts.append(" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 12))))
    for _ in range(10):
        prompts.append(" ".join(rng.choice(WORDS) for _ in range(200)))
    for _ in range(10):
        prompts.append("photo of " + rng.choice(WORDS).upper() + ", " + "".join(rng.choice("abcdefgh'!,.1 ") for _ in range(30)))
    return prompts


def bytes_in_order():
    first = [b for b in range(256) if 0x21 <= b <= 0x7e or (b >= 0xa1 and b != 0xad)]
    rest = [b for b in range(256) if b not in first]
    return [chr(b) for b in first] + [chr(256 + i) for i in range(len(rest))]


def train(lines, size):
    backend = CLIPTokenizer().backend_tokenizer  # for its normalizer and word pattern only
    counts = Counter()
    for line in lines:
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(line)))
    words = [([*word[:-1], word[-1] + "</w>"], n) for word, n in counts.items()]
    alphabet = bytes_in_order()
    tokens, merges = alphabet + [c + "</w>" for c in alphabet], []
    while len(tokens) + 2 < size:
        pairs = Counter()
        for symbols, n in words:
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p[0].encode(), p[1].encode()))
        for symbols, _ in words:
            i = 0
            while i + 1 < len(symbols):
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i:i + 2] = ["".join(best)]
                i += 1
        if "".join(best) not in tokens:
            tokens.append("".join(best))
        merges.append(best)
    return tokens + ["<|startoftext|>", "<|endoftext|>"], merges


def write(name, text):
    (OUT / name).write_text(text, encoding="utf-8", newline="\n")


def record(prompts, name):
    tokenizer = CLIPTokenizer.from_pretrained(OUT)
    rows = [tokenizer(p, padding="max_length", truncation=True, max_length=LENGTH)["input_ids"] for p in prompts]
    save_file({"input_ids": torch.tensor(rows, dtype=torch.int64)}, OUT / name, metadata={"format": "pt"})


def main():
    OUT.mkdir(exist_ok=True)
    prompts = make_prompts()
    tokens, merges = train(prompts, SIZE)
    write("prompts.txt", "".join(p + "\n" for p in prompts))
    write("vocab.json", json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    write("merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    token = lambda text: {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    # As in SD 1.5 and SD 2.x: the config says one thing, special_tokens_map.json another.
    write("tokenizer_config.json", json.dumps(
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, "pad_token": "<|endoftext|>",
         **{k: {"__type": "AddedToken", **token(v)} for k, v in
            {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}.items()}}, indent=2))
    special = {"bos_token": token("<|startoftext|>"), "eos_token": token("<|endoftext|>"), "unk_token": token("<|endoftext|>")}
    write("special_tokens_map.json", json.dumps({**special, "pad_token": "!"}, indent=2))
    record(prompts[:len(HARD)], "ids_pad_sd2.safetensors")
    write("special_tokens_map.json", json.dumps({**special, "pad_token": "<|endoftext|>"}, indent=2))
    record(prompts, "ids.safetensors")


if __name__ == "__main__":
    main()
