// Before anything is painted: light or dark, if the person has chosen. This is a preference of
// the browser's; nothing about runs is ever kept in it.
try {
  const chosen = localStorage.getItem('theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden: then it is what the system prefers.
}
