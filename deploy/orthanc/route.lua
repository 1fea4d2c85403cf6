-- Orthanc sends every MR series that has become stable (see StableAge) to the SpineOne node.
--
-- In orthanc.json:
--   "LuaScripts": ["/etc/orthanc/route.lua"],
--   "DicomModalities": { "spineone": ["SPINEONE", "192.0.2.20", 11112] },
--   "StableAge": 30
--
-- Orthanc does not repeat a job that failed because the node was stopped. Use route.py, which does, or let the node
-- fetch what is missing ([[archives]] with fetch_missing, or `dicom-node pull`).
--
-- The node's results are SR, SC and PR series: they are not sent back, so nothing goes round in circles.

NODE = 'spineone'

function OnStableSeries(seriesId, tags, metadata)
   if tags['Modality'] == 'MR' then
      -- This is a job of Orthanc's own, so that Lua does not wait for it; SendToModality takes single instances only.
      local job = { Resources = { seriesId }, Synchronous = false }
      RestApiPost('/modalities/' .. NODE .. '/store', DumpJson(job))
   end
end
