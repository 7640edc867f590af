"""Examples for the help of `netprobe geometry`."""

from __future__ import annotations

EXAMPLES = """\b
netprobe geometry runs/kh/best.pt runs/bp/best.pt untrained=shallow --data mnist --limit 500 -o out/
netprobe geometry A.pt B.pt --data mnist --limit 200 --analyses distances --walks fgsm,coarse-pgd --points 400
netprobe geometry A.pt --data mnist --limit 2000 --analyses units,dimension --correction 32
netprobe geometry A.pt --data mnist --analyses plane --wrt scale --plane-site "re:^relu$" --plane-points 101"""
