from vidpref.seeds import fold_seed


def test_parts_of_neighbouring_seeds_and_rounds_have_seeds_of_their_own():
    parts = [("pretrain",), ("evaluation",), ("validation",)]
    parts += [(name, round_) for name in ("label", "losers", "align") for round_ in range(1, 9)]
    found = {fold_seed(seed, *part) for seed in range(300) for part in parts}
    # 8100 of 2^31 seeds: a pair in common has probability 1.5 %, and these have none.
    assert len(found) == 300 * len(parts)
    assert all(0 <= seed < 2**31 for seed in found)


def test_the_same_part_has_the_same_seed_everywhere():
    assert fold_seed(0, "align", 1) == 1644854586
    assert fold_seed(0, "align", 1) == fold_seed(0, "align", "1")
