({
  // Texts that are hard to read: contrast under 4.5 (large: 3) against what is behind them.
  contrast() {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
      const part = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const bad = [];
    let seen = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const own = walker.currentNode.parentElement;
      if (!walker.currentNode.textContent.trim() || !own.checkVisibility({ visibilityProperty: true })) continue;
      if (own.closest(".unseen, .skip, option, kbd, noscript, .flash-a, .flash-b")) continue;
      let back = null;
      let faded = false;
      for (let at = own; at !== null; at = at.parentElement) {
        const style = getComputedStyle(at);
        if (Number(style.opacity) < 1) faded = true;
        if (back === null && rgba(style.backgroundColor)[3] > 250) back = rgba(style.backgroundColor);
      }
      if (faded || back === null) continue;
      seen += 1;
      const style = getComputedStyle(own);
      const [a, b] = [light(rgba(style.color)), light(back)].sort((x, y) => y - x);
      const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 700);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < (large ? 3 : 4.5)) bad.push(`${own.className || own.tagName} "${walker.currentNode.textContent.trim()}" ${ratio.toFixed(2)}`);
    }
    return { seen, bad: [...new Set(bad)] };
  },

  // What can be operated or read as one thing, and has no name to say.
  nameless() {
    const kinds = "a, button, input, select, textarea, [role=region], [role=group], [role=img], article";
    const text = (id) => document.getElementById(id ?? "")?.textContent.trim();
    return [...document.querySelectorAll(kinds)]
      .filter((one) => one.checkVisibility())
      .filter((one) => {
        const own = one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent.trim();
        return !(own || text(one.getAttribute("aria-labelledby")));
      })
      .map((one) => one.outerHTML);
  },

  // Numbers of the books that do not fit where they stand, or are broken over lines.
  clipped() {
    const tall = (one) => one.getBoundingClientRect().height > 1.9 * parseFloat(getComputedStyle(one).fontSize);
    return [...document.querySelectorAll(".best strong, .best span, .ladder .price, .ladder td.number, .legs td")]
      .filter((one) => one.checkVisibility() && one.textContent !== "")
      .filter((one) => one.scrollWidth > Math.ceil(one.clientWidth || one.scrollWidth) || (!one.matches("td, th") && tall(one)))
      .map((one) => `${one.className} ${one.textContent}`);
  },

  // What makes the page wider than its window.
  tooWide() {
    if (document.documentElement.scrollWidth <= innerWidth) return [];
    return [...document.querySelectorAll("body *")]
      .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth)
      .map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 30)}`);
  },

  headless() {
    return [...document.querySelectorAll("table")].filter((one) => !one.querySelector("th[scope=col]")).length;
  },

  repeated() {
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    return ids.filter((id, at) => ids.indexOf(id) !== at);
  },

  focused() {
    const one = document.activeElement;
    const drawn = one.type === "radio" ? one.nextElementSibling : one;
    const outline = one === document.body ? "solid" : getComputedStyle(drawn).outlineStyle;
    return { name: one.className || one.id || one.name, outline };
  },

  countMutations() {
    window.touched = 0;
    const everything = { subtree: true, childList: true, attributes: true, characterData: true };
    const watch = new MutationObserver((found) => {
      window.touched += found.length;
    });
    watch.observe(document.querySelector(".ladder"), everything);
  },

  // The sockets that the page opens, so that a test can do wrong on them.
  noteSockets() {
    window.sockets = [];
    window.WebSocket = class extends WebSocket {
      constructor(...options) {
        super(...options);
        window.sockets.push(this);
      }
    };
  },

  // Every state that the connection is shown in, with what the ladders look like then.
  noteLinks() {
    window.links = [];
    const note = () => {
      const faded = Number(getComputedStyle(document.querySelector(".ladder table")).opacity) < 0.5;
      window.links.push({ link: document.body.dataset.link, text: document.getElementById("link-text").textContent, faded });
    };
    new MutationObserver(note).observe(document.body, { attributes: true, attributeFilter: ["data-link"] });
  },

  // A connection that stays open and says nothing, while `window.deaf`.
  deafen() {
    const Real = WebSocket;
    window.WebSocket = class extends Real {
      addEventListener(type, listener) {
        const heard = (event) => window.deaf || listener(event);
        super.addEventListener(type, type === "message" ? heard : listener);
      }
    };
  },
})
