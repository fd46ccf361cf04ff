// Runs before the first paint, so that a chosen theme does not flash. Without a choice the page
// follows the system.
(() => {
  try {
    const theme = localStorage.getItem("adze.theme");
    if (theme === "dark" || theme === "light") {
      document.documentElement.dataset.theme = theme;
    }
  } catch {
    // Storage is blocked: the system's theme it is.
  }
})();
