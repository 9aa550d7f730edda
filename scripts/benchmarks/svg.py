"""Bar charts as SVG: groups of bars, one bar for each series, whiskers for the spread."""
import math
from xml.sax.saxutils import escape

COLORS = {"direct": "#9aa0a6", "direct, tracked": "#5f6368", "heddle eBPF": "#1a73e8", "heddle eBPF alone": "#8ab4f8",
          "heddle nftables": "#12a4af", "kube-proxy-shaped iptables": "#e8710a",
          "kube-proxy-shaped nftables": "#f2b134"}
MORE = ["#1a73e8", "#e8710a", "#9334e6", "#188038"]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 380, 70, 84, 54


def bars(title, groups, series, unit, log=False, line=None):
    """`series`: name -> one of None, a number or (median, least, most) for each group. `line`: a value to be marked."""
    values = [whole(value) for row in series.values() for value in row if value is not None]
    values = [part for value in values for part in value if part > 0] or [1]
    scale = Scale(min(values), max(values), log)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">' % (
        WIDTH, HEIGHT), '<rect width="100%" height="100%" fill="#fff"/>',
        text(LEFT, 24, title, size=16), text(LEFT, TOP - 12, unit + (", logarithmic" if log else ""), color="#555")]
    for tick in scale.ticks:
        y = scale.y(tick)
        out.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>' % (LEFT, WIDTH - 16, y, y))
        out.append(text(LEFT - 8, y + 4, "%g" % tick, anchor="end", color="#555"))
    room = (WIDTH - 16 - LEFT) / len(groups)
    wide = min(48, room * 0.8 / len(series))
    x = LEFT
    for number, (name, row) in enumerate(series.items()):
        color = COLORS.get(name, MORE[number % len(MORE)])
        out.append('<rect x="%.0f" y="36" width="12" height="12" fill="%s"/>' % (x, color))
        out.append(text(x + 17, 46, name))
        x += 28 + 6.4 * len(name)
        for place, value in enumerate(row):
            if value is not None:
                left = LEFT + room * (place + 0.5) + wide * (number - len(series) / 2)
                out += bar(left, wide * 0.9, whole(value), scale, color)
    if line is not None:
        out.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#000" stroke-dasharray="4 3"/>' % (
            LEFT, WIDTH - 16, scale.y(line), scale.y(line)))
    for place, group in enumerate(groups):
        out.append(text(LEFT + room * (place + 0.5), HEIGHT - BOTTOM + 20, group, anchor="middle"))
    return "\n".join(out + ["</svg>\n"])


def whole(value):
    return value if isinstance(value, tuple) else (value, value, value)


def text(x, y, content, anchor="start", color="#000", size=12):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" font-size="%d">%s</text>' % (
        x, y, anchor, color, size, escape(content))


def bar(left, wide, value, scale, color):
    median, least, most = value
    y, middle = scale.y(median), left + wide / 2
    out = ['<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>' % (
        left, y, wide, max(0, HEIGHT - BOTTOM - y), color)]
    if most > least:
        out.append('<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#333"/>' % (
            middle, middle, scale.y(least), scale.y(most)))
    # Narrow ones have no room for a number.
    if wide > 20:
        out.append(text(middle, min(y, scale.y(most)) - 4, "%.3g" % median, anchor="middle", size=9))
    return out


class Scale:
    def __init__(self, least, most, log):
        self.log = log
        if log:
            self.low = 10 ** math.floor(math.log10(least) - 0.01)
            self.high = 10 ** math.ceil(math.log10(most) + 0.01)
            self.ticks = [10.0 ** power for power in range(round(math.log10(self.low)),
                                                           round(math.log10(self.high)) + 1)]
        else:
            step = 10 ** math.floor(math.log10(most))
            step = next(step * part for part in (0.2, 0.5, 1, 2, 5) if most / (step * part) <= 6)
            self.low, self.high = 0, step * math.ceil(most * 1.05 / step)
            self.ticks = [step * number for number in range(round(self.high / step) + 1)]

    def y(self, value):
        if self.log:
            value = max(value, self.low)
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = value / self.high
        return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
