// OHIF beside Orthanc's DICOMweb on one origin (nginx.conf); `make viewers` opens the node's reports with this very file.
window.config = {
  routerBasename: null, extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 1, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  showLoadingIndicator: true, strictZSpacingForVolumeViewport: true, groupEnabledModesFirst: true,
  investigationalUseDialog: { option: 'never' }, defaultDataSourceName: 'orthanc',
  maxNumRequests: { interaction: 20, thumbnail: 5, prefetch: 5 },
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'orthanc',
    configuration: {
      friendlyName: 'Orthanc', name: 'orthanc',
      wadoUriRoot: '/wado', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      dicomUploadEnabled: false, bulkDataURI: { enabled: true }, omitQuotationForMultipartRequest: true,
    },
  }],
};
